//! What the operator is told when it starts: flags, each with an environment variable that the chart sets.
//!
//! Invariant: nothing here is secret, and nothing changes while the program runs.

use std::net::SocketAddr;

/// Command line and environment of `cofferdam-operator run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "cofferdam-system")]
    pub namespace: String,
    /// Name of this replica; it tells the holders of the leader's lease apart.
    #[arg(long, env = "POD_NAME", default_value = "cofferdam-operator")]
    pub pod_name: String,
    /// The Service in front of the operator.
    #[arg(long, env = "COFFERDAM_SERVICE", default_value = "cofferdam-operator")]
    pub service: String,
    /// Name of the mutating and of the validating webhook configuration.
    #[arg(long, env = "COFFERDAM_WEBHOOK_CONFIGURATION", default_value = "cofferdam")]
    pub webhook_configuration: String,
    /// Where the webhook listens (HTTPS).
    #[arg(long, env = "COFFERDAM_WEBHOOK_ADDRESS", default_value = "0.0.0.0:9443")]
    pub webhook_address: SocketAddr,
    /// Where the check-in server listens (HTTPS).
    #[arg(long, env = "COFFERDAM_CHECK_IN_ADDRESS", default_value = "0.0.0.0:8443")]
    pub check_in_address: SocketAddr,
    /// Where metrics and health endpoints listen (HTTP).
    #[arg(long, env = "COFFERDAM_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
    /// Addresses that profiles may lead to, in which `*` stands for one label of a host's name; none: all are allowed.
    #[arg(long, env = "COFFERDAM_ALLOWED_ENDPOINTS", value_delimiter = ',')]
    pub allowed_endpoints: Vec<String>,
    /// Libraries of HSMs that profiles may have loaded into operator, sidecars and Jobs, by their paths in the image; none: no profile
    /// with `pkcs11` is used.
    #[arg(long, env = "COFFERDAM_PKCS11_MODULES", value_delimiter = ',')]
    pub pkcs11_modules: Vec<String>,
    /// Identity services that may be shown service account tokens, the operator's and those of pods and Jobs, for profiles whose
    /// credential is such a token; `*` as above.
    #[arg(
        long,
        env = "COFFERDAM_IDENTITY_TOKEN_ENDPOINTS",
        value_delimiter = ',',
        default_values_t = ["https://iam.cloud.ibm.com", "https://sts.*.amazonaws.com", "https://login.microsoftonline.com", "https://sts.googleapis.com"].map(str::to_owned)
    )]
    pub identity_token_endpoints: Vec<String>,
    /// What is written into pods.
    #[command(flatten)]
    pub injection: InjectionSettings,
}

/// What injected containers and the pods of rewrap Jobs are made of, beside the custom resources.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct InjectionSettings {
    /// Image of sidecar, gate and rewrap Job, exactly as it is to stand in pods.
    #[arg(long, env = "COFFERDAM_IMAGE")]
    pub image: String,
    /// `imagePullPolicy` of that image.
    #[arg(long, env = "COFFERDAM_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Base URL of the check-in server, without path.
    #[arg(long, env = "COFFERDAM_OPERATOR_URL")]
    pub operator_url: String,
    /// CPU of a sidecar that neither its binding nor its pod says.
    #[arg(long, env = "COFFERDAM_SIDECAR_CPU", default_value = "500m")]
    pub sidecar_cpu: String,
    /// Memory of a sidecar that neither its binding nor its pod says.
    #[arg(long, env = "COFFERDAM_SIDECAR_MEMORY", default_value = "128Mi")]
    pub sidecar_memory: String,
    /// Exclude the ports of the KMS and of the check-in server from service meshes.
    #[arg(long, env = "COFFERDAM_MESH_EXCLUSION", default_value_t = true, action = clap::ArgAction::Set)]
    pub mesh_exclusion: bool,
}

impl Settings {
    /// DNS names that the operator's certificate must carry.
    pub fn dns_names(&self) -> Vec<String> {
        let (service, namespace) = (&self.service, &self.namespace);
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ]
    }
}
