//! The generated definitions are those of the types.
#![allow(clippy::unwrap_used)]

use std::path::Path;

fn assert_current(folder: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    for (name, crd) in api::crd::all() {
        let text = format!("{}{}", api::crd::HEADER, serde_saphyr::to_string(&crd).unwrap());
        let committed = std::fs::read_to_string(path.join(&name)).unwrap_or_default();
        assert_eq!(committed, text, "{folder}/{name} is stale; run: cargo xtask generate");
    }
    let found = std::fs::read_dir(&path).unwrap().count();
    assert_eq!(found, api::crd::all().len(), "a definition too many in {folder}/");
}

#[test]
fn the_committed_definitions_are_current() {
    assert_current("crds");
}

#[test]
fn the_definitions_in_the_chart_are_current() {
    assert_current("charts/cofferdam/files/crds");
}

#[test]
fn what_an_encrypted_volume_is_of_cannot_be_changed() {
    let all = api::crd::all();
    let (_, crd) = all.iter().find(|(_, crd)| crd.spec.names.kind == "EncryptedVolume").unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    let spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
    let required: Vec<_> =
        spec["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for field in ["claimName", "bindingName", "profile"] {
        // A rule about a field is not asked while it is absent: it must be there.
        assert!(required.contains(&field), "{field}");
        let rules = &spec["properties"][field]["x-kubernetes-validations"];
        assert_eq!(rules[0]["rule"], "self == oldSelf", "{field}");
    }
}

/// What the API server makes of these rules, the story shows.
#[test]
fn the_fields_that_give_away_an_identity_have_rules() {
    let all = api::crd::all();
    let spec = |kind: &str| {
        let (_, crd) = all.iter().find(|(_, crd)| crd.spec.names.kind == kind).unwrap();
        let schema = serde_json::to_value(crd).unwrap()["spec"]["versions"][0]["schema"].clone();
        schema["openAPIV3Schema"]["properties"]["spec"]["properties"].clone()
    };
    let credentials = spec("KmsProfile")["credentials"]["properties"].clone();
    for credential in ["data", "rewrap", "admin"] {
        let trusted = &credentials[credential]["properties"]["trustedProfile"]["properties"]["audience"];
        let rule = trusted["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
        assert!(rule.contains("self != ''") && rule.contains("self != 'cofferdam'"), "{credential}: {rule}");
        assert_eq!(trusted["default"], "iam");
    }
    let account = &spec("StorageBinding")["rewrap"]["properties"]["serviceAccountName"];
    assert!(account["x-kubernetes-validations"][0]["rule"].is_string());
    assert_eq!(account["default"], "default");
}

#[test]
fn every_field_of_a_definition_says_what_it_is() {
    fn undocumented(at: &str, schema: &serde_json::Value, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            // Types of Kubernetes itself are documented there.
            let ours =
                !at.contains("conditions") && !at.contains("sidecarResources") && !at.contains("selector.");
            if ours
                && name != "spec"
                && name != "status"
                && property["description"].as_str().is_none_or(str::is_empty)
            {
                found.push(at.clone());
            }
            undocumented(&at, property, found);
            undocumented(&at, &property["items"], found);
        }
    }
    let mut found = vec![];
    for (name, crd) in api::crd::all() {
        let crd = serde_json::to_value(crd).unwrap();
        undocumented(
            &name,
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
            &mut found,
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Formats that the API server knows and that this project has a use for.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

#[test]
fn every_format_is_one_that_the_api_server_knows() {
    fn unknown(at: &str, value: &serde_json::Value, found: &mut Vec<String>) {
        let format = value.get("format").and_then(serde_json::Value::as_str);
        if let Some(format) = format.filter(|format| !FORMATS.contains(format)) {
            found.push(format!("{at}: {format}"));
        }
        let fields = value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value));
        let items =
            value.as_array().into_iter().flatten().enumerate().map(|(n, value)| (n.to_string(), value));
        for (name, value) in fields.chain(items) {
            unknown(&format!("{at}.{name}"), value, found);
        }
    }
    let mut found = vec![];
    for (name, crd) in api::crd::all() {
        unknown(&name, &serde_json::to_value(crd).unwrap(), &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_number_without_a_sign_has_bounds_that_say_so() {
    let all = api::crd::all();
    let definition = |kind: &str| {
        let (_, crd) = all.iter().find(|(_, crd)| crd.spec.names.kind == kind).unwrap();
        serde_json::to_value(crd).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
            .clone()
    };
    let volume = definition("EncryptedVolume");
    let status = &volume["status"]["properties"];
    let uid = &status["marker"]["properties"]["uid"];
    assert_eq!((uid["format"].as_str(), uid["minimum"].as_f64()), (Some("int64"), Some(0.0)));
    assert_eq!(uid["maximum"].as_f64(), Some(4_294_967_295.0), "a uid may be larger than an int32");
    let counts = &status["lastSweep"]["properties"]["filesPerVersion"]["additionalProperties"];
    assert_eq!((counts["format"].as_str(), counts["minimum"].as_f64()), (Some("int64"), Some(0.0)));
    // A bound of our own stays.
    let poll = definition("KmsProfile")["spec"]["properties"]["pollSeconds"].clone();
    assert_eq!((poll["minimum"].as_f64(), poll["maximum"].as_f64()), (Some(5.0), Some(3600.0)));
}
