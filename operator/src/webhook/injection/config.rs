//! The configuration as the value of an environment variable.
//!
//! Invariant: kubelet puts the pod's name into claims that are named after it, and changes nothing else.

use contract::config::{CONFIG_VERSION, Profile, SidecarConfig, Volume};

/// How a claim's name begins that will be known only when the pod has a name.
const POD_NAME_REFERENCE: &str = "$(POD_NAME)-";

/// The name of a pod's own ephemeral claim, for a pod whose name is not known yet.
pub fn ephemeral_claim(volume: &str) -> String {
    format!("{POD_NAME_REFERENCE}{volume}")
}

/// The configuration of a sidecar.
pub fn sidecar_config(operator_url: &str, profiles: Vec<Profile>, volumes: Vec<Volume>) -> SidecarConfig {
    SidecarConfig { version: CONFIG_VERSION, operator_url: operator_url.into(), profiles, volumes }
}

/// The configuration as the value of its environment variable: kubelet expands `$(…)`, so every other `$` is doubled.
pub fn environment_value(config: &SidecarConfig) -> String {
    let json = serde_json::to_string(config).expect("plain data serialises");
    let reference = format!(r#""claim":"{POD_NAME_REFERENCE}"#);
    // Inside of JSON strings quotes are escaped, so that this matches the field alone.
    json.replace('$', "$$").replace(&reference.replace('$', "$$"), &reference)
}
