//! One check-in, from the token to the orders.
//!
//! Invariant: the pod is read from the API at each check-in, so that a pod that is gone speaks no more, whatever its token.

use std::net::IpAddr;
use std::sync::Arc;

use api::{EncryptedVolume, KmsProfile};
use contract::check_in::{CheckIn, CheckInReply, Role, VolumeOrder, VolumePhase, VolumeReport, reasons};
use contract::names::{JOB_CONTAINER, REWRAP_LABEL, SIDECAR_CONTAINER};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::identity::{Caller, IdentityError};
use super::merge::{Merged, Sender, merge};
use super::pod_condition::{differs, present, served};
use super::server::CheckIns;
use crate::controllers::conditions;
use crate::controllers::volume::look::{claims, mounts};
use crate::rewrap::plan::sweep_requested;

/// Times that a status is written anew after somebody else was quicker.
const TRIES: usize = 8;

/// A check-in that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows who speaks, or nobody asked.
    #[error("know the sender")]
    Identity(#[source] IdentityError),
    /// The sender may not report this.
    #[error("take the report: {0}")]
    Forbidden(&'static str),
    /// The API server could not be asked, or told.
    #[error("{doing}")]
    Api {
        /// What was to be done.
        doing: &'static str,
        /// Why it was not.
        #[source]
        source: kube::Error,
    },
}

fn api(doing: &'static str) -> impl Fn(kube::Error) -> Refusal {
    move |source| Refusal::Api { doing, source }
}

impl CheckIns {
    /// Takes a report of whoever has this token, from this address; the reply has an order for each volume that counted.
    pub async fn receive(
        self: &Arc<Self>,
        token: &str,
        peer: IpAddr,
        report: &CheckIn,
    ) -> Result<CheckInReply, Refusal> {
        let now = conditions::now().0.as_second();
        let asked = || self.metrics.review();
        let caller = self.identities.of(&self.client, token, peer, now, asked).await;
        let caller = caller.inspect_err(|error| self.metrics.refusal(error)).map_err(Refusal::Identity)?;
        let pod = self.pod(&caller).await?;
        speaks_as(&pod, report.role)?;
        let mounted = claims(&pod);
        let is_its_own = |volume: &&VolumeReport| {
            mounted.iter().any(|(name, claim)| *name == volume.name && *claim == volume.claim)
        };
        let own: Vec<VolumeReport> = report.volumes.iter().filter(is_its_own).cloned().collect();
        if own.is_empty() && !report.volumes.is_empty() {
            return Err(Refusal::Forbidden("the pod mounts none of these claims"));
        }
        let own = self.with_holders(&caller, own).await?;
        if report.role == Role::Sidecar {
            self.tell_pod(&pod, &own).await?;
        }
        let mut reply = CheckInReply::default();
        for volume in &own {
            if let Some(order) = self.record(&caller, report.role, volume).await? {
                reply.volumes.push(order);
            }
        }
        let lost = |volume: &VolumeReport| {
            volume.phase == VolumePhase::Failed && volume.reason == reasons::SESSION_LOST
        };
        if report.role == Role::Sidecar && own.iter().any(lost) {
            self.evict(&pod);
        }
        Ok(reply)
    }

    async fn pod(&self, caller: &Caller) -> Result<Pod, Refusal> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &caller.namespace);
        let pod = pods.get_opt(&caller.pod).await.map_err(api("read the sender's pod"))?;
        let pod = pod.filter(|pod| pod.metadata.uid.as_ref() == Some(&caller.uid));
        pod.ok_or(Refusal::Forbidden("the pod of the token is gone"))
    }

    /// Who waits for another pod is told which.
    async fn with_holders(
        &self,
        caller: &Caller,
        mut own: Vec<VolumeReport>,
    ) -> Result<Vec<VolumeReport>, Refusal> {
        for report in own.iter_mut().filter(|report| report.reason == reasons::VOLUME_IN_USE) {
            let volumes = Api::<EncryptedVolume>::namespaced(self.client.clone(), &caller.namespace);
            let volume = volumes.get_opt(&report.claim).await.map_err(api("read the volume's record"))?;
            let serving = volume.and_then(|volume| volume.status?.pod).filter(|pod| *pod != caller.pod);
            let holder = match serving {
                Some(pod) => Some(pod),
                None => self.another_pod(caller, &report.claim).await?,
            };
            if let Some(holder) = holder.filter(|holder| !report.message.contains(holder.as_str())) {
                report.message = format!("{}; pod {holder} has it", report.message);
            }
        }
        Ok(own)
    }

    async fn another_pod(&self, caller: &Caller, claim: &str) -> Result<Option<String>, Refusal> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &caller.namespace);
        let unended = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let pods = pods.list(&unended).await.map_err(api("list the pods of the namespace"))?.items;
        let mut others = pods.iter().filter(|pod| pod.name_any() != caller.pod && mounts(pod, claim));
        Ok(others.next().map(ResourceExt::name_any))
    }

    /// Sets the pod's condition, if it is to say something else.
    async fn tell_pod(&self, pod: &Pod, own: &[VolumeReport]) -> Result<(), Refusal> {
        let before = present(pod);
        let next = served(own, before, &conditions::now());
        if !differs(before, &next) {
            return Ok(());
        }
        let pods = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [next]}});
        // The list of conditions is merged by type; kubelet keeps those that are not its own.
        match pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(api("set the pod's condition")(error)),
        }
        self.announce_pod(pod, before, &next).await;
        Ok(())
    }

    async fn announce_pod(&self, pod: &Pod, before: Option<&PodCondition>, next: &PodCondition) {
        if before.is_some_and(|before| before.status == next.status && before.reason == next.reason) {
            return;
        }
        let (about, reason) = (pod.object_ref(&()), next.reason.clone().unwrap_or_default());
        let note = next.message.clone().unwrap_or_default();
        if next.status == "True" || reason == reasons::STARTING {
            self.events.normal(&about, &reason, &note).await;
        } else {
            self.events.warning(&about, &reason, &note).await;
        }
    }

    /// Merges a report into the volume's record; `None`: there is no record yet.
    async fn record(
        &self,
        caller: &Caller,
        role: Role,
        report: &VolumeReport,
    ) -> Result<Option<VolumeOrder>, Refusal> {
        let volumes = Api::<EncryptedVolume>::namespaced(self.client.clone(), &caller.namespace);
        let from = Sender { pod: &caller.pod, role };
        for _ in 0..TRIES {
            let found = volumes.get_opt(&report.claim).await.map_err(api("read the volume's record"))?;
            let Some(mut volume) = found else { return Ok(None) };
            let current = self.current_version(&volume).await?;
            let merged = merge(&volume, report, from, current.as_deref(), &conditions::now());
            let Some(merged) = merged else {
                return Ok(Some(order(report, current, false)));
            };
            volume.status = Some(merged.status.clone());
            match volumes.replace_status(&volume.name_any(), &PostParams::default(), &volume).await {
                Ok(written) => {
                    self.announce(&written, &merged).await;
                    let runs = report.sweep.as_ref().is_some_and(|sweep| !sweep.complete);
                    let wanted = merged.restored || sweep_requested(&written);
                    let again = role == Role::Sidecar && wanted && !runs;
                    return Ok(Some(order(report, current, again)));
                }
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(api("write the volume's status")(error)),
            }
        }
        Err(Refusal::Forbidden("the volume's status changes too quickly; check in again"))
    }

    async fn current_version(&self, volume: &EncryptedVolume) -> Result<Option<String>, Refusal> {
        let reference = &volume.spec.profile;
        let home = reference.namespace.clone().or(volume.namespace()).unwrap_or_default();
        let profiles = Api::<KmsProfile>::namespaced(self.client.clone(), &home);
        let profile = profiles.get_opt(&reference.name).await.map_err(api("read the volume's profile"))?;
        Ok(profile.and_then(|profile| profile.status?.current_version))
    }

    async fn announce(&self, volume: &EncryptedVolume, merged: &Merged) {
        let about = volume.object_ref(&());
        for notice in &merged.notices {
            if notice.warning {
                self.events.warning(&about, &notice.reason, &notice.note).await;
            } else {
                self.events.normal(&about, &notice.reason, &notice.note).await;
            }
        }
    }
}

fn order(report: &VolumeReport, target_version: Option<String>, sweep_again: bool) -> VolumeOrder {
    VolumeOrder { name: report.name.clone(), target_version, sweep_again }
}

/// The pod is what its message says that it is.
fn speaks_as(pod: &Pod, role: Role) -> Result<(), Refusal> {
    let spec = pod.spec.clone().unwrap_or_default();
    let injected = spec.init_containers.unwrap_or_default().iter().any(|c| c.name == SIDECAR_CONTAINER);
    let of_job = pod.owner_references().iter().any(|owner| owner.kind == "Job")
        && pod.labels().contains_key(REWRAP_LABEL)
        && spec.containers.iter().any(|container| container.name == JOB_CONTAINER);
    match role {
        Role::Sidecar if injected => Ok(()),
        Role::Job if of_job => Ok(()),
        Role::Sidecar => Err(Refusal::Forbidden("the pod has no sidecar")),
        Role::Job => Err(Refusal::Forbidden("the pod is of no rewrap Job")),
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
