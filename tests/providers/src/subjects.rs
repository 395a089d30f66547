//! The providers that are judged, and what each declares not to have.
//!
//! Invariant: a declaration names a check or a point that has none, and a reason or the place of the proof.

/// How a provider stands to a point or a check that the suite does not run for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The vendor has no such thing.
    Absent(&'static str),
    /// Shown by tests beside the suite.
    Beside(&'static str),
}

/// A check, or the number of a point without one, and how a provider stands to it.
pub type Declared = (&'static str, Standing);

/// A provider.
#[derive(Debug)]
pub struct Subject {
    /// Its name for people.
    pub name: &'static str,
    /// What the suite runs against.
    pub against: &'static str,
    /// What it declares.
    pub declared: &'static [Declared],
}

impl Subject {
    /// How it stands to a check or to the number of a point without one; `None`: it is run.
    pub fn standing(&self, name: &str) -> Option<Standing> {
        self.declared.iter().find(|(declared, _)| *declared == name).map(|(_, standing)| *standing)
    }

    /// Why a check is not run for it.
    pub fn absent(&self, check: &str) -> Option<&'static str> {
        self.standing(check).map(|standing| match standing {
            Standing::Absent(why) | Standing::Beside(why) => why,
        })
    }
}

/// Each of them.
pub const SUBJECTS: &[&Subject] = &[&AWS, &AZURE, &GOOGLE, &KEY_PROTECT, &SOFTHSM, &OPENBAO];

pub(crate) const AWS: Subject = Subject {
    name: "AWS KMS",
    against: "`tests/emulators/aws`, an emulator",
    declared: &[
        (
            "an_expired_key_unwraps_and_wraps_no_more",
            Standing::Absent("only imported material expires, and then the key does neither"),
        ),
        ("a_version_is_refused_alone", Standing::Absent("versions have no state of their own")),
        ("17", Standing::Absent("the service has none")),
        ("19", Standing::Beside("kms/src/aws/tests/wire.rs")),
        ("29", Standing::Absent("no hardware token")),
        ("30", Standing::Beside("tests/providers/tests/aws/client.rs")),
    ],
};

pub(crate) const AZURE: Subject = Subject {
    name: "Azure Key Vault",
    against: "an emulator",
    declared: &[
        (
            "a_wrong_context_is_invalid_and_never_tried_again",
            Standing::Absent("the vault binds no context; the key commitment of each file does"),
        ),
        (
            "a_rewrap_credential_cannot_unwrap",
            Standing::Absent(
                "rewrapping is unwrapping and wrapping: whoever may do the one may do the others",
            ),
        ),
        ("17", Standing::Absent("the service has none")),
        ("19", Standing::Beside("kms/src/azure/tests/wire.rs")),
        ("29", Standing::Absent("no hardware token")),
        ("30", Standing::Beside("tests/emulators/azure/tests/vendor_client.rs")),
    ],
};

pub(crate) const GOOGLE: Subject = Subject {
    name: "Google Cloud KMS",
    against: "`tests/emulators/google`, an emulator",
    declared: &[
        ("an_expired_key_unwraps_and_wraps_no_more", Standing::Absent("keys do not expire")),
        (
            "a_rewrap_credential_cannot_unwrap",
            Standing::Absent("the service has no rewrap: whoever rewraps a key unwraps it"),
        ),
        ("17", Standing::Beside("tests/providers/tests/google/checksums.rs")),
        ("19", Standing::Beside("kms/src/google/tests/wire.rs")),
        ("29", Standing::Absent("no hardware token")),
        ("30", Standing::Beside("tests/emulators/google/tests/google_client.rs")),
    ],
};

pub(crate) const KEY_PROTECT: Subject = Subject {
    name: "IBM Key Protect",
    against: "`devkms`, an emulator",
    declared: &[
        ("a_version_is_refused_alone", Standing::Absent("versions have no state of their own")),
        ("17", Standing::Absent("the service has none")),
        ("19", Standing::Beside("kms/src/key_protect/tests/wire.rs")),
        ("29", Standing::Absent("no hardware token")),
        ("30", Standing::Beside("devkms/tests/keyprotect_client.rs")),
    ],
};

const NO_ROLES: &str =
    "a token has one user, who may do all that its keys may; partitions and their policies are the HSM's own";

pub(crate) const SOFTHSM: Subject = Subject {
    name: "PKCS#11",
    against: "a real token of SoftHSM",
    declared: &[
        (
            "an_expired_key_unwraps_and_wraps_no_more",
            Standing::Absent("the dates of a key are only information"),
        ),
        ("a_deleted_key_can_be_restored", Standing::Absent("a destroyed object is gone")),
        ("a_removed_permission_is_denied_after_one_new_token", Standing::Absent(NO_ROLES)),
        ("throttling_is_waited_out_within_bounds", Standing::Absent("a token names no time to wait")),
        (
            "a_certificate_counts_only_if_authority_name_and_time_are_right",
            Standing::Absent("the connection is the vendor's library's own"),
        ),
        ("a_redirect_is_not_followed", Standing::Absent("the connection is the vendor's library's own")),
        ("a_service_ten_minutes_ahead_is_no_matter", Standing::Absent("no time of a token is read")),
        ("a_data_credential_cannot_change_the_root_key", Standing::Absent(NO_ROLES)),
        ("a_rewrap_credential_cannot_unwrap", Standing::Absent(NO_ROLES)),
        ("17", Standing::Absent("the standard has none")),
        ("19", Standing::Beside("kms/src/pkcs11/tests/wire.rs")),
        ("29", Standing::Beside("tests/providers/tests/pkcs11/lost.rs")),
        ("30", Standing::Absent("the library is the vendor's own")),
    ],
};

pub(crate) const OPENBAO: Subject = Subject {
    name: "Transit",
    against: "a real OpenBao server",
    declared: &[
        ("an_expired_key_unwraps_and_wraps_no_more", Standing::Absent("keys do not expire")),
        (
            "a_deleted_key_can_be_restored",
            Standing::Absent("a deleted key is gone; OpenBao's soft deletion is what disabling is"),
        ),
        (
            "a_service_ten_minutes_ahead_is_no_matter",
            Standing::Absent("nobody moves the clock of a real server; no time of it is read"),
        ),
        ("17", Standing::Absent("the service has none")),
        ("19", Standing::Beside("kms/src/transit/tests/wire.rs")),
        ("29", Standing::Absent("no hardware token")),
        ("30", Standing::Absent("the server is the vendor's own")),
    ],
};
