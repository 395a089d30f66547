//! What is declared in the cluster, kept in memory by watches: claims, bindings, profiles, records, namespaces.
//!
//! Invariant: an absence in a store proves nothing (the watch may be behind); whoever needs an absence asks the API server.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;

use api::{EncryptedVolume, KmsProfile, StorageBinding};
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Readers of all stores; cheap to clone.
#[derive(Clone)]
pub struct Stores {
    /// Claims of all namespaces.
    pub claims: Store<PersistentVolumeClaim>,
    /// Bindings of all namespaces.
    pub bindings: Store<StorageBinding>,
    /// Profiles of all namespaces.
    pub profiles: Store<KmsProfile>,
    /// Records of all namespaces.
    pub volumes: Store<EncryptedVolume>,
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    changes: watch::Receiver<u64>,
}

impl Stores {
    /// The stores, and the watches that fill them; nothing happens until those are polled.
    pub fn new(client: &Client) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (tick, changes) = watch::channel(0);
        let (claims, fill_claims) = filled(Api::all(client.clone()), tick.clone());
        let (bindings, fill_bindings) = filled(Api::all(client.clone()), tick.clone());
        let (profiles, fill_profiles) = filled(Api::all(client.clone()), tick.clone());
        let (volumes, fill_volumes) = filled(Api::all(client.clone()), tick.clone());
        let (namespaces, fill_namespaces) = filled(Api::all(client.clone()), tick);
        let filling = [
            fill_claims.boxed(),
            fill_bindings.boxed(),
            fill_profiles.boxed(),
            fill_volumes.boxed(),
            fill_namespaces.boxed(),
        ];
        let stores = Self { claims, bindings, profiles, volumes, namespaces, changes };
        (stores, join_all(filling).map(|_| ()))
    }

    /// Resolves when every store has had its first list.
    pub async fn ready(&self) {
        // An error says that the writer is gone: the program is ending.
        let _ = self.claims.wait_until_ready().await;
        let _ = self.bindings.wait_until_ready().await;
        let _ = self.profiles.wait_until_ready().await;
        let _ = self.volumes.wait_until_ready().await;
        let _ = self.namespaces.wait_until_ready().await;
    }

    /// A counter that changes whenever bindings, profiles, records, namespaces or claims do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

fn filled<K>(api: Api<K>, tick: watch::Sender<u64>) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let writer = Writer::default();
    let reader = writer.as_reader();
    let stream = watcher(api, watcher::Config::default()).default_backoff().modify(|object| {
        // By far the largest part of most objects, and of no use here.
        object.managed_fields_mut().clear();
    });
    let kind = std::any::type_name::<K>().rsplit("::").next().unwrap_or_default();
    let filling = reflector::reflector(writer, stream).for_each(move |event| {
        if let Err(error) = event {
            tracing::warn!(%error, kind, "a watch failed and is tried again");
        } else {
            tick.send_modify(|count| *count = count.wrapping_add(1));
        }
        futures::future::ready(())
    });
    (reader, filling)
}
