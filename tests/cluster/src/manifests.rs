//! The manifests that people write: the security team's profile, the application team's binding and pods.
//!
//! Invariant: application manifests know nothing of Cofferdam; they would run on any cluster.

use crate::root_key::{DATA_API_KEY, INSTANCE, REWRAP_API_KEY};
use crate::{RootKey, Stage};

/// Pod-level security context that Pod Security `restricted` accepts.
pub const POD_SECURITY: &str = "{runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}";
/// Container-level security context that Pod Security `restricted` accepts.
pub const CONTAINER_SECURITY: &str = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";
/// The image of the test applications.
pub const IMAGE: &str = "localhost/apps:dev";

/// The security team's part: credentials, the KMS's certificate authority, and a profile `main`.
pub fn profile(key: &RootKey) -> String {
    let ca = key.authority().replace('\n', "\\n");
    format!(
        r#"
apiVersion: v1
kind: Secret
metadata: {{name: kms-data}}
stringData: {{apiKey: {DATA_API_KEY}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: kms-rewrap}}
stringData: {{apiKey: {REWRAP_API_KEY}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: kms-ca}}
data: {{ca.crt: "{ca}"}}
---
apiVersion: cofferdam.io/v1alpha1
kind: KmsProfile
metadata: {{name: main}}
spec:
  keyProtect: {{endpoint: "{url}", iamEndpoint: "{url}", instance: {instance}, rootKey: {id}}}
  caBundle: {{configMap: kms-ca}}
  credentials:
    data: {{apiKeySecret: {{name: kms-data}}}}
    rewrap: {{apiKeySecret: {{name: kms-rewrap}}}}
  pollSeconds: 5
"#,
        url = key.kms.https_url(),
        instance = INSTANCE,
        id = key.id,
    )
}

/// The same profile, rotated by the operator every 30 days with the API key of the Secret `kms-admin`.
pub fn managed_profile(key: &RootKey, admin_api_key: &str) -> String {
    let secret = format!(
        "\napiVersion: v1\nkind: Secret\nmetadata: {{name: kms-admin}}\nstringData: {{apiKey: {admin_api_key}}}\n---"
    );
    let admin = "\n    admin: {apiKeySecret: {name: kms-admin}}\n  rotation: {managed: true, by: Operator, intervalMonths: 1}\n  pollSeconds:";
    secret + &profile(key).replace("\n  pollSeconds:", admin)
}

/// The application team's part: a binding `app` for every claim with the label `protect: yes`.
pub fn binding() -> String {
    r#"
apiVersion: cofferdam.io/v1alpha1
kind: StorageBinding
metadata: {name: app}
spec:
  profile: {name: main}
  claims: {selector: {matchLabels: {protect: "yes"}}}
  rewrap: {staggerSeconds: 1}
"#
    .into()
}

/// A pod with one container that mounts `claim` at /data and runs a shell script.
pub fn pod(name: &str, claim: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 2
  securityContext: {POD_SECURITY}
  containers:
    - name: app
      image: {IMAGE}
      imagePullPolicy: Never
      command: [bash, -c, {script:?}]
      securityContext: {CONTAINER_SECURITY}
      volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]
"#
    )
}

/// A Job whose one pod is [`pod`], and which counts a failed pod as its own failure.
pub fn job(name: &str, claim: &str, script: &str) -> String {
    let pod = pod(name, claim, script);
    let spec = pod.split_once("spec:\n").map_or("", |(_, spec)| spec).replace('\n', "\n    ");
    format!(
        "\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n      \
         restartPolicy: Never\n    {spec}\n"
    )
}

/// Applies profile and binding, and waits until both are Ready.
pub fn protect(stage: &Stage, key: &RootKey) {
    stage.apply(&profile(key));
    stage.wait_condition("kmsprofile", "main", "Ready", "True");
    stage.apply(&binding());
    stage.wait_condition("storagebinding", "app", "Ready", "True");
}
