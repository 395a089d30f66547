//! The first opening of an empty volume, crashed at every operation of its storage: the next opening finds a volume, or makes
//! one. It never refuses what is left as somebody's plaintext or as a volume without its marker.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use contract::config::{Credential, KeyProtect, Provider};
use crash::disk::{Bench, Change, Image};
use crash::states::{Crash, lay};
use devkms::{Config, Grant, Role, Seed, Server};
use envelope::Ownership;
use kms::{KeyRef, Options, ProviderConfig, SecretString};
use sidecar::keys::RootKey;
use sidecar::volume::{self, Purpose, Request, VolumeError};

const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
const KEY: &str = "22222222-2222-4222-8222-222222222222";

fn root_key(server: &Server) -> RootKey {
    let config = {
        let provider = Provider::KeyProtect(KeyProtect::at(&server.url(), INSTANCE, KEY));
        let credential = Credential::ApiKeyFile { path: "/nowhere".into() };
        ProviderConfig::new(provider, credential).at_loopback()
    };
    let secret = SecretString::from("data-key".to_owned());
    let kms = kms::connect_with_secret(&config, secret, &Options::default()).unwrap();
    RootKey::new(kms, KeyRef(KEY.into()), envelope::Provider::KeyProtect)
}

fn request(path: &Path) -> Request {
    Request {
        path: path.into(),
        purpose: Purpose::Write,
        holder: "pod test/writer".into(),
        storage_entries: vec![],
        pinned: None,
        ownership: Ownership::Native,
        strict: false,
        seal: false,
    }
}

/// Opens the volume and gives it back; its id.
async fn open(path: &Path, root: &RootKey) -> Result<String, VolumeError> {
    let volume = volume::open(&request(path), root).await?;
    Ok(volume.region.marker().volume_id().to_string())
}

#[test]
fn a_volume_whose_initialisation_crashed_is_initialised_again_and_one_that_was_opened_stays() {
    let Some(bench) = Bench::new() else { return };
    let seed = Seed::one_key(INSTANCE, KEY).api_key("data", "data-key", Grant::role(Role::Reader));
    let server = Server::start(Config::ephemeral(seed)).unwrap();
    let root = Arc::new(root_key(&server));
    // Of this thread, so that its helpers see the mounts too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (number, dir) = bench.mount.add(Image::new());
    let first = runtime.block_on(open(&dir, &root)).unwrap();
    let recording = bench.mount.remove(number);
    let renamed = |change: &Change| matches!(change, Change::Rename { .. });
    let marker = recording.log.iter().position(renamed).expect("the marker is renamed to its place");
    let (mut seen, mut made, mut found) = (HashSet::new(), 0, 0);
    for at in 0..=recording.log.len() {
        let crash = Crash::new(&recording.base, &recording.log[..at], 4096);
        for number in 0..crash.len() {
            let state = crash.state(number);
            if !seen.insert(state.digest) {
                continue;
            }
            let dir = bench.states.join("state");
            lay(&state.image, &dir);
            let again = runtime.block_on(open(&dir, &root));
            let id = again.unwrap_or_else(|error| panic!("operation {at}, state {number}: {error:?}"));
            assert_eq!(runtime.block_on(open(&dir, &root)).unwrap(), id, "operation {at}, state {number}");
            assert!(id == first || at < recording.log.len(), "state {number}: it was served, and is gone");
            if id == first {
                assert!(at > marker, "operation {at}, state {number}: the marker cannot be there yet");
                found += 1;
            } else {
                made += 1;
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
    assert!(made > 2 && found > 0, "{made} made, {found} found");
    eprintln!(
        "{} operations, {} states: {found} with the marker, {made} without",
        recording.log.len(),
        made + found
    );
}
