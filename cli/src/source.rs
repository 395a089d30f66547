//! Finds a profile and its secrets: in a manifest and files, in the cluster, or part of each.
//!
//! Invariant: what a file gives is not asked of the cluster, and what is missing does not hide the rest.

use api::profile::Credential;
use api::{KmsProfile, connection};
use kms::SecretString;

use crate::args::{Chosen, CommonArgs, SourceArgs};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::given;
use crate::subject::{Gap, Held, Role, Subject, foreign_audience};

/// The places where things are found.
pub struct Source<'a> {
    common: &'a CommonArgs,
    args: &'a SourceArgs,
    secrets: Vec<Chosen>,
    cluster: Option<Cluster>,
}

impl<'a> Source<'a> {
    /// Opens nothing yet.
    pub fn new(common: &'a CommonArgs, args: &'a SourceArgs) -> Result<Self, Failure> {
        Ok(Self { common, args, secrets: args.secrets()?, cluster: None })
    }

    /// The cluster, opened when it is first needed.
    pub async fn cluster(&mut self) -> Result<&Cluster, Gap> {
        if self.cluster.is_none() {
            self.cluster = Some(Cluster::open(self.common).await?);
        }
        self.cluster.as_ref().ok_or_else(|| Gap::outage("the cluster is not open"))
    }

    /// The profile of this name (`[namespace/]name`), with those of its credentials.
    pub async fn subject(&mut self, named: Option<&str>, roles: &[Role]) -> Result<Subject, Failure> {
        let profile = self.profile(named).await?;
        self.subject_of(profile, roles).await
    }

    /// A profile with those of its credentials.
    pub async fn subject_of(&mut self, profile: KmsProfile, roles: &[Role]) -> Result<Subject, Failure> {
        let mut subject = self.described(profile)?;
        subject.ca = self.authority(&subject).await;
        for role in roles {
            let Some(declared) = role.declared(&subject.spec).cloned() else { continue };
            let secret = self.secret(*role, &declared, &subject.namespace).await;
            subject.credentials.push(Held { role: *role, declared, secret });
        }
        Ok(subject)
    }

    async fn profile(&mut self, named: Option<&str>) -> Result<KmsProfile, Failure> {
        let (namespace, name) = match named.map(|named| named.split_once('/')) {
            Some(Some((namespace, name))) => (Some(namespace), Some(name)),
            _ => (None, named),
        };
        if let Some(path) = &self.args.file {
            let mut profile = given::profile(path, name)?;
            let declared = namespace.map(str::to_owned).or_else(|| self.common.namespace.clone());
            profile.metadata.namespace = declared.or(profile.metadata.namespace);
            return Ok(profile);
        }
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(Failure::usage("name a profile, or a manifest with --file"));
        };
        let cluster = self.cluster().await?;
        let namespace = namespace.unwrap_or(&cluster.namespace);
        Ok(cluster.profile(namespace, name).await?)
    }

    fn described(&self, profile: KmsProfile) -> Result<Subject, Failure> {
        let Some(provider) = connection::provider(&profile.spec) else {
            return Err(Failure::config("the profile names no provider that this version knows"));
        };
        Ok(Subject {
            namespace: profile.metadata.namespace.unwrap_or_default(),
            name: profile.metadata.name.unwrap_or_default(),
            spec: profile.spec,
            provider,
            ca: Ok(None),
            allow_loopback_http: self.args.allow_loopback_http,
            credentials: Vec::new(),
        })
    }

    async fn authority(&mut self, subject: &Subject) -> Result<Option<String>, Gap> {
        if let Some(path) = &self.args.ca_file {
            return given::authority(path).map(Some);
        }
        let Some(bundle) = &subject.spec.ca_bundle else { return Ok(None) };
        let cluster = self.cluster().await?;
        let namespace = cluster.or_own(&subject.namespace);
        cluster.authority(namespace, bundle).await.map(Some)
    }

    async fn secret(
        &mut self,
        role: Role,
        declared: &Credential,
        namespace: &str,
    ) -> Result<SecretString, Gap> {
        if let Some(chosen) = self.secrets.iter().find(|chosen| chosen.of == role) {
            return given::secret(&chosen.file);
        }
        if let Some(audience) = declared.audience() {
            let audience = foreign_audience(&audience)?;
            let account = self.service_account(role).ok_or_else(|| {
                let role = role.name();
                Gap::refused(format!(
                    "it takes the token of a service account: name one with --service-account {role}=NAME, or give a token \
                     with --secret {role}=FILE"
                ))
            })?;
            let cluster = self.cluster().await?;
            let own = cluster.or_own(namespace);
            let (namespace, name) = account.split_once('/').unwrap_or((own, &account));
            return cluster.token(namespace, name, audience).await;
        }
        let Some((name, key)) = connection::secret(declared) else {
            return Err(Gap::wrong(format!("credentials.{} declares nothing", role.name())));
        };
        let cluster = self.cluster().await?;
        cluster.secret(cluster.or_own(namespace), name, key).await
    }

    fn service_account(&self, role: Role) -> Option<String> {
        let named = |of: Option<Role>| self.args.service_account.iter().find(|chosen| chosen.of == of);
        named(Some(role)).or_else(|| named(None)).map(|chosen| chosen.value.clone())
    }
}
