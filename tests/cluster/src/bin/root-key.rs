//! The security team's hands on a root key at devkms, for the demo: `root-key KEY rotate|disable|enable|state`.
//!
//! Invariant: it goes through the KMS's real API, with the API key and the certificate authority that the demo's
//! environment names.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use contract::config::{Credential, KeyProtect, Provider};
use kms::{CaSource, CallCtx, KeyRef, Options, ProviderConfig};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [key, action] = &words[..] else { bail!("usage: root-key KEY rotate|disable|enable|state") };
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let root_key = KeyProtect::at(&variable("KMS_URL")?, &variable("KMS_INSTANCE")?, key);
    let credential = Credential::ApiKeyFile { path: variable("KMS_API_KEY_FILE")? };
    let ca = Some(CaSource::File { path: variable("KMS_CA_FILE")? });
    let config = ProviderConfig { ca, ..ProviderConfig::new(Provider::KeyProtect(root_key), credential) };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(act(&config, &KeyRef(key.clone()), action))
}

async fn act(config: &ProviderConfig, key: &KeyRef, action: &str) -> Result<()> {
    let (options, call) = (Options::default(), CallCtx::default());
    let admin = kms::connect_admin(config, None, &options)?;
    match action {
        "rotate" => admin.rotate(key, &call).await?,
        "disable" => admin.set_enabled(key, false, &call).await?,
        "enable" => admin.set_enabled(key, true, &call).await?,
        "state" => {}
        _ => bail!("{action} is none of rotate, disable, enable, state"),
    }
    let info = kms::connect(config, &options)?.describe(key, &call).await?;
    let version = info.current.map_or_else(|| "none".into(), |version| version.0);
    println!("root key {} is {:?}, its current version is {version}", key.0, info.state);
    Ok(())
}
