//! The manifests that people write: the security team's profile, the application team's binding and pods.
//!
//! Invariant: application manifests know nothing of Cofferdam; they would run on any cluster.

use crate::root_key::{DATA_API_KEY, INSTANCE, REWRAP_API_KEY};
use crate::trusted::{DATA_PROFILE, REWRAP_PROFILE};
use crate::{RootKey, Stage};

/// Pod-level security context that Pod Security `restricted` accepts.
pub const POD_SECURITY: &str = "{runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}";
/// Container-level security context that Pod Security `restricted` accepts.
pub const CONTAINER_SECURITY: &str = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";
/// The image of the test applications.
pub const IMAGE: &str = "localhost/apps:dev";

/// The security team's part: credentials, the KMS's certificate authority, and a profile `main`.
pub fn profile(key: &RootKey) -> String {
    let secrets = format!(
        r"
apiVersion: v1
kind: Secret
metadata: {{name: kms-data}}
stringData: {{apiKey: {DATA_API_KEY}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: kms-rewrap}}
stringData: {{apiKey: {REWRAP_API_KEY}}}
---"
    );
    let credentials =
        "\n    data: {apiKeySecret: {name: kms-data}}\n    rewrap: {apiKeySecret: {name: kms-rewrap}}";
    secrets + &profile_with(key, credentials)
}

/// A profile `main` with trusted profiles and no Secret, which bindings of `namespace` may use.
pub fn shared_profile(key: &RootKey, namespace: &str) -> String {
    let credentials = format!(
        "\n    data: {{trustedProfile: {{id: {DATA_PROFILE}}}}}\n    rewrap: {{trustedProfile: {{id: {REWRAP_PROFILE}}}}}\n  \
         allowedNamespaces: [{namespace}]"
    );
    profile_with(key, &credentials)
}

fn profile_with(key: &RootKey, credentials: &str) -> String {
    let ca = key.authority().replace('\n', "\\n");
    format!(
        r#"
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
  credentials:{credentials}
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

/// The same binding to the profile `main` of another namespace, with Jobs that run as the service account `account`.
pub fn binding_to(home: &str, account: &str) -> String {
    binding()
        .replace("profile: {name: main}", &format!("profile: {{name: main, namespace: {home}}}"))
        .replace("staggerSeconds: 1", &format!("staggerSeconds: 1, serviceAccountName: {account}"))
}

/// [`pod`], as another service account than `default`.
pub fn pod_as(account: &str, name: &str, claim: &str, script: &str) -> String {
    pod(name, claim, script).replacen("spec:\n", &format!("spec:\n  serviceAccountName: {account}\n"), 1)
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
