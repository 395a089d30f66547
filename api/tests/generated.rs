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
