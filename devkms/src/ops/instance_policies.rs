//! Policies of a whole instance. Invariant: they concern keys made later. `allowedNetwork`, `allowedIP` and `metrics` are kept and shown,
//! not acted on: this server has one network and metrics of its own.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::resources;
use super::{Call, Reply, view};
use crate::access::Resource;
use crate::clock::rfc3339;
use crate::error::{ApiError, Reason};
use crate::keys::{InstancePolicy, PolicyStamp};
use crate::service::Service;

const KINDS: [&str; 6] =
    ["dualAuthDelete", "allowedNetwork", "allowedIP", "metrics", "keyCreateImportAccess", "rotation"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    policy_type: String,
    policy_data: Data,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    enabled: bool,
    attributes: Option<Value>,
}

/// Sets one policy, or several where the query names none.
pub fn put(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let mut state = service.lock();
    call.require(&Resource::Instance(call.instance))?;
    let bodies: Vec<Body> = resources(call.body)?;
    for (at, body) in bodies.iter().enumerate() {
        check(call, body)?;
        if bodies[..at].iter().any(|other| other.policy_type == body.policy_type) {
            return Err(Reason::BadBody.into());
        }
    }
    service.change_instance(&mut state, call.instance, |instance| {
        for body in bodies {
            let before = instance.policies.get(&body.policy_type).map(|p| &p.stamp);
            let policy = InstancePolicy {
                enabled: body.policy_data.enabled,
                attributes: body.policy_data.attributes.filter(|_| body.policy_data.enabled),
                stamp: PolicyStamp::touch(before, call.now, &call.caller.id),
            };
            instance.policies.insert(body.policy_type, policy);
        }
        Ok(Reply::empty())
    })
}

fn check(call: &Call<'_>, body: &Body) -> Result<(), ApiError> {
    if !KINDS.contains(&body.policy_type.as_str())
        || call.query.get("policy").is_some_and(|p| *p != body.policy_type)
    {
        return Err(Reason::QueryMismatch.into());
    }
    let months = body.policy_data.attributes.as_ref().and_then(|a| a.get("interval_month"));
    let months = months.and_then(Value::as_u64).is_some_and(|m| (1..=12).contains(&m));
    if body.policy_type == "rotation" && body.policy_data.enabled && !months {
        return Err(ApiError::field("interval_month"));
    }
    Ok(())
}

/// The policies that were ever set.
pub fn get(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let state = service.lock();
    call.require(&Resource::Instance(call.instance))?;
    let wanted = |name: &str| call.query.get("policy").is_none_or(|p| p == name);
    let policies = call.instance_in(&state)?.policies.iter().filter(|(name, _)| wanted(name));
    let shown = policies.map(|(name, policy)| {
        let mut data = json!({"enabled": policy.enabled});
        if let Some(attributes) = &policy.attributes {
            data["attributes"] = attributes.clone();
        }
        let mut out = view::stamp(&policy.stamp);
        out.insert("lastUpdated".to_owned(), json!(rfc3339(policy.stamp.updated.at)));
        out.insert("policy_type".to_owned(), json!(name));
        out.insert("policy_data".to_owned(), data);
        Value::Object(out)
    });
    Ok(Reply::with(200, view::collection(view::POLICY, shown.collect())))
}

/// The private port that an allowed IP policy would need; there is none here.
pub fn allowed_ip_port(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let state = service.lock();
    call.require(&Resource::Some(call.instance))?;
    call.instance_in(&state)?;
    Ok(Reply::with(200, view::collection("application/vnd.ibm.kms.allowed_ip_metadata+json", vec![])))
}
