//! Puts the authorities into the webhook configurations, so that the API server trusts the webhook.
//!
//! Invariant: nothing but `caBundle` is changed, and only where the webhook at that place has the name that was read.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// Sees to it that both configurations called `name` carry `bundle`.
pub async fn ensure(client: &Client, name: &str, bundle: &str) -> Result<(), kube::Error> {
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    if let Some(found) = api.get_opt(name).await? {
        let webhooks = found.webhooks.unwrap_or_default();
        let changes =
            changes(webhooks.iter().map(|webhook| (webhook.name.as_str(), &webhook.client_config)), bundle);
        if !changes.0.is_empty() {
            api.patch(name, &PatchParams::default(), &Patch::Json::<()>(changes)).await?;
        }
    }
    let api = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    if let Some(found) = api.get_opt(name).await? {
        let webhooks = found.webhooks.unwrap_or_default();
        let changes =
            changes(webhooks.iter().map(|webhook| (webhook.name.as_str(), &webhook.client_config)), bundle);
        if !changes.0.is_empty() {
            api.patch(name, &PatchParams::default(), &Patch::Json::<()>(changes)).await?;
        }
    }
    Ok(())
}

fn changes<'a>(
    webhooks: impl Iterator<Item = (&'a str, &'a WebhookClientConfig)>,
    bundle: &str,
) -> JsonPatch {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let mut operations = vec![];
    for (index, (name, config)) in webhooks.enumerate() {
        if config.ca_bundle.as_ref() == Some(&bundle) {
            continue;
        }
        let index = index.to_string();
        let path = PointerBuf::from_tokens(["webhooks", &index, "name"]);
        operations.push(PatchOperation::Test(TestOperation { path, value: json!(name) }));
        let path = PointerBuf::from_tokens(["webhooks", &index, "clientConfig", "caBundle"]);
        operations.push(PatchOperation::Add(AddOperation { path, value: json!(bundle) }));
    }
    JsonPatch(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_with_another_bundle_are_changed() {
        let with = |text: &str| WebhookClientConfig {
            ca_bundle: Some(ByteString(text.as_bytes().to_vec())),
            ..WebhookClientConfig::default()
        };
        let (old, new, none) = (with("old"), with("new"), WebhookClientConfig::default());
        let all = [("a", &old), ("b", &new), ("c", &none)];
        let text = serde_json::to_string(&changes(all.into_iter(), "new")).unwrap_or_default();
        assert!(
            text.contains("/webhooks/0/clientConfig/caBundle") && text.contains("/webhooks/2/name"),
            "{text}"
        );
        assert!(!text.contains("/webhooks/1/"), "{text}");
        assert!(changes([("b", &new)].into_iter(), "new").0.is_empty());
    }
}
