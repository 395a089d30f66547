"""Drives a key vault and a managed HSM with Microsoft's own Python clients through the life of their keys.

Every step states what it expects and stops the run where the service does otherwise, so that a
service which passes speaks the protocol that the clients were written for.

Exit status: 0 when every step holds, 1 at the first that does not.
"""

import argparse
import datetime
import os

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, WorkloadIdentityCredential
from azure.keyvault.keys import (
    KeyClient,
    KeyOperation,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

import steps
from steps import Mismatch, expect, expect_true

NAME = "scenario"
SECRET_KEY = bytes(range(0xE0, 0x100))
RSA = KeyWrapAlgorithm.rsa_oaep_256
AES = KeyWrapAlgorithm.aes_256


def refused(error_type, status, codes, call, *args, **kwargs):
    """Expects an error of this class, with this status, this code and this inner code."""
    try:
        call(*args, **kwargs)
    except error_type as error:
        inner = error.error.innererror or {}
        expect((error.status_code, error.error.code, inner.get("code")), (status, *codes), "refusal")
        return error
    raise Mismatch(f"a call went through that {codes} should have refused")


def days_from_now(days):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)


class Run:
    def __init__(self, args):
        self.args = args
        self.owner = self.keys(args.vault, self.by_secret("owner"))
        # One that may not read keys has its wraps done by the vault; one that may not wrap does it with the public key.
        self.user = self.by_secret("user")
        self.reader = self.by_secret("reader")

    def by_secret(self, client, secret=None, at=None):
        secret = secret or os.environ[f"SECRET_{client.upper()}"]
        authority = at or self.args.vault
        return ClientSecretCredential(
            self.args.tenant, client, secret, authority=authority, disable_instance_discovery=True)

    def by_token(self, path):
        return WorkloadIdentityCredential(
            tenant_id=self.args.tenant, client_id="federated", token_file_path=path, authority=self.args.vault,
            disable_instance_discovery=True)

    def keys(self, url, credential):
        return KeyClient(url, credential, verify_challenge_resource=False)

    def crypto(self, kid, credential):
        return CryptographyClient(kid, credential, verify_challenge_resource=False)

    def a_wrong_secret_is_rejected(self):
        wrong = self.keys(self.args.vault, self.by_secret("owner", "wrong"))
        try:
            wrong.get_key(NAME)
        except ClientAuthenticationError as error:
            expect_true("AADSTS7000215" in error.message, f"the reason is said: {error.message}")
            return
        raise Mismatch("a wrong secret went through")

    def an_rsa_key_is_made_and_described(self):
        ops = [KeyOperation.wrap_key, KeyOperation.unwrap_key]
        made = self.owner.create_rsa_key(
            NAME, size=2048, hardware_protected=True, key_operations=ops, tags={"of": "the scenario"})
        expect((made.key_type, made.name, made.key_operations), ("RSA-HSM", NAME, ["wrapKey", "unwrapKey"]), "key")
        expect((len(made.key.n), made.key.e, made.key.d), (256, b"\x01\x00\x01", None), "public members only")
        seen = self.owner.get_key(NAME).properties
        expect((seen.version, seen.enabled, seen.tags), (made.properties.version, True, {"of": "the scenario"}), "properties")
        expect((seen.recovery_level, seen.recoverable_days), ("Recoverable+Purgeable", 90), "recovery")
        age = datetime.datetime.now(datetime.timezone.utc) - seen.created_on
        expect_true(abs(age.total_seconds()) < 60, f"created just now, not {age} ago")
        expect_true(len(seen.version) == 32 and seen.version == seen.version.lower(), "a version of 32 digits")
        expect([key.name for key in self.owner.list_properties_of_keys()], [NAME], "keys listed")
        self.first = made.id

    def the_request_id_comes_back(self):
        seen = {}

        def keep(response):
            seen["sent"] = response.http_request.headers["x-ms-client-request-id"]
            seen["returned"] = response.http_response.headers.get("x-ms-client-request-id")

        self.owner.get_key(NAME, raw_response_hook=keep)
        expect(seen["returned"], seen["sent"], "request id")

    def the_vault_wraps_and_unwraps(self):
        crypto = self.crypto(self.first, self.user)
        self.wrapped = crypto.wrap_key(RSA, SECRET_KEY).encrypted_key
        expect((len(self.wrapped), crypto._keys_get_forbidden), (256, True), "wrapped by the vault")
        expect_true(crypto.wrap_key(RSA, SECRET_KEY).encrypted_key != self.wrapped, "two wraps differ")
        expect(crypto.unwrap_key(RSA, self.wrapped).key, SECRET_KEY, "unwrapped")

    def what_the_client_wraps_with_the_public_key_the_vault_unwraps(self):
        crypto = self.crypto(self.first, self.reader)
        local = crypto.wrap_key(RSA, SECRET_KEY)
        expect(crypto.unwrap_key(RSA, local.encrypted_key).key, SECRET_KEY, "the client's own wrap")

    def damage_is_a_bad_parameter(self):
        crypto = self.crypto(self.first, self.user)
        damaged = self.wrapped[:-1] + bytes([self.wrapped[-1] ^ 1])
        for value in (damaged, self.wrapped[:-4], b""):
            refused(HttpResponseError, 400, ("BadParameter", None), crypto.unwrap_key, RSA, value)
        refused(HttpResponseError, 400, ("BadParameter", None), crypto.unwrap_key, AES, self.wrapped)

    def a_missing_permission_is_forbidden_by_rbac(self):
        nobody = self.by_secret("nobody")
        refused(HttpResponseError, 403, ("Forbidden", "ForbiddenByRbac"), self.keys(self.args.vault, nobody).get_key, NAME)
        refused(HttpResponseError, 403, ("Forbidden", "ForbiddenByRbac"), self.keys(self.args.vault, self.reader).rotate_key, NAME)

    def a_rotation_makes_a_version_and_keeps_the_old(self):
        rotated = self.owner.rotate_key(NAME)
        expect_true(rotated.id != self.first, "another version")
        expect(self.owner.get_key(NAME).id, rotated.id, "the current version")
        expect(self.crypto(self.first, self.user).unwrap_key(RSA, self.wrapped).key, SECRET_KEY, "the old version unwraps")
        refused(HttpResponseError, 400, ("BadParameter", None), self.crypto(rotated.id, self.user).unwrap_key, RSA, self.wrapped)
        unknown = self.first[:-32] + "0" * 32
        refused(ResourceNotFoundError, 404, ("KeyNotFound", None), self.crypto(unknown, self.user).unwrap_key, RSA, self.wrapped)
        self.second = rotated.id

    def versions_are_listed_page_by_page(self):
        pages = self.owner.list_properties_of_key_versions(NAME, max_page_size=1).by_page()
        listed = [[version.id for version in page] for page in pages]
        expect(sorted(listed), sorted([[self.first], [self.second]]), "one version on each page")

    def a_disabled_version_is_refused_alone(self):
        version = self.first.rsplit("/", 1)[1]
        disabled = self.owner.update_key_properties(NAME, version, enabled=False)
        expect((disabled.properties.enabled, disabled.properties.tags), (False, {"of": "the scenario"}), "properties")
        crypto = self.crypto(self.first, self.user)
        refused(HttpResponseError, 403, ("Forbidden", "KeyDisabled"), crypto.unwrap_key, RSA, self.wrapped)
        refused(HttpResponseError, 403, ("Forbidden", "KeyDisabled"), crypto.wrap_key, RSA, SECRET_KEY)
        expect(self.owner.get_key(NAME).properties.enabled, True, "the current version")
        self.owner.update_key_properties(NAME, version, enabled=True)
        expect(crypto.unwrap_key(RSA, self.wrapped).key, SECRET_KEY, "enabled again")

    def outside_its_time_a_key_unwraps_only(self):
        version = self.first.rsplit("/", 1)[1]
        crypto = self.crypto(self.first, self.user)
        self.owner.update_key_properties(NAME, version, expires_on=days_from_now(-1))
        refused(HttpResponseError, 403, ("Forbidden", "KeyExpired"), crypto.wrap_key, RSA, SECRET_KEY)
        expect(crypto.unwrap_key(RSA, self.wrapped).key, SECRET_KEY, "expired")
        self.owner.update_key_properties(NAME, version, not_before=days_from_now(1), expires_on=days_from_now(2))
        refused(HttpResponseError, 403, ("Forbidden", "KeyNotYetValid"), crypto.wrap_key, RSA, SECRET_KEY)
        expect(crypto.unwrap_key(RSA, self.wrapped).key, SECRET_KEY, "not yet valid")

    def a_rotation_policy_is_kept(self):
        rotate = KeyRotationPolicyAction.rotate
        before = self.owner.get_key_rotation_policy(NAME)
        expect([action.action for action in before.lifetime_actions], [KeyRotationPolicyAction.notify], "the default")
        wanted = KeyRotationLifetimeAction(rotate, time_after_create="P90D")
        self.owner.update_key_rotation_policy(NAME, KeyRotationPolicy(), lifetime_actions=[wanted], expires_in="P2Y")
        policy = self.owner.get_key_rotation_policy(NAME)
        shown = [(action.action, action.time_after_create) for action in policy.lifetime_actions]
        expect((shown, policy.expires_in), ([(rotate, "P90D")], "P2Y"), "policy")
        often = KeyRotationLifetimeAction(rotate, time_after_create="P1D")
        refused(HttpResponseError, 400, ("BadParameter", None),
                self.owner.update_key_rotation_policy, NAME, KeyRotationPolicy(), lifetime_actions=[often])

    def a_deleted_key_can_be_recovered(self):
        self.owner.begin_delete_key(NAME).wait()
        deleted = self.owner.get_deleted_key(NAME)
        kept = deleted.scheduled_purge_date - deleted.deleted_date
        expect((deleted.name, kept.days), (NAME, 90), "the deleted key")
        refused(ResourceNotFoundError, 404, ("KeyNotFound", None), self.owner.get_key, NAME)
        refused(ResourceNotFoundError, 404, ("KeyNotFound", None), self.crypto(self.first, self.user).unwrap_key, RSA, self.wrapped)
        refused(ResourceExistsError, 409, ("Conflict", "ObjectIsDeletedButRecoverable"), self.owner.create_rsa_key, NAME, size=2048)
        recovered = self.owner.begin_recover_deleted_key(NAME)
        recovered.wait()
        expect(recovered.result().name, NAME, "the recovered key")
        expect(self.crypto(self.first, self.user).unwrap_key(RSA, self.wrapped).key, SECRET_KEY, "as before")

    def a_purged_key_is_gone(self):
        self.owner.create_rsa_key("short-lived", size=2048)
        self.owner.begin_delete_key("short-lived").wait()
        self.owner.purge_deleted_key("short-lived")
        refused(ResourceNotFoundError, 404, ("KeyNotFound", None), self.owner.get_deleted_key, "short-lived")

    def a_vault_makes_no_symmetric_key(self):
        refused(HttpResponseError, 400, ("BadParameter", None), self.owner.create_oct_key, "aes", size=256, hardware_protected=True)

    def a_managed_hsm_wraps_with_a_symmetric_key(self):
        hsm = self.args.hsm
        made = self.keys(hsm, self.by_secret("owner", at=hsm)).create_oct_key("aes", size=256, hardware_protected=True)
        expect((made.key_type, made.key.k), ("oct-HSM", None), "key")
        crypto = self.crypto(made.id, self.by_secret("user", at=hsm))
        wrapped = crypto.wrap_key(AES, SECRET_KEY).encrypted_key
        expect(len(wrapped), 40, "AES key wrap")
        expect(crypto.unwrap_key(AES, wrapped).key, SECRET_KEY, "unwrapped")
        refused(HttpResponseError, 400, ("BadParameter", None), crypto.unwrap_key, AES, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))

    def a_service_account_token_is_a_credential(self):
        federated = self.keys(self.args.vault, self.by_token(self.args.token))
        expect(federated.get_key(NAME).name, NAME, "the key")
        wrong = self.keys(self.args.vault, self.by_token(self.args.wrong_token))
        try:
            wrong.get_key(NAME)
        except ClientAuthenticationError as error:
            expect_true("AADSTS700212" in error.message, f"the reason is said: {error.message}")
            return
        raise Mismatch("a token for another audience went through")


STEPS = [
    Run.a_wrong_secret_is_rejected,
    Run.an_rsa_key_is_made_and_described,
    Run.the_request_id_comes_back,
    Run.the_vault_wraps_and_unwraps,
    Run.what_the_client_wraps_with_the_public_key_the_vault_unwraps,
    Run.damage_is_a_bad_parameter,
    Run.a_missing_permission_is_forbidden_by_rbac,
    Run.a_rotation_makes_a_version_and_keeps_the_old,
    Run.versions_are_listed_page_by_page,
    Run.a_disabled_version_is_refused_alone,
    Run.outside_its_time_a_key_unwraps_only,
    Run.a_rotation_policy_is_kept,
    Run.a_deleted_key_can_be_recovered,
    Run.a_purged_key_is_gone,
    Run.a_vault_makes_no_symmetric_key,
    Run.a_managed_hsm_wraps_with_a_symmetric_key,
    Run.a_service_account_token_is_a_credential,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("vault", "hsm", "tenant", "token", "wrong-token"):
        parser.add_argument(f"--{name}", required=True)
    run = Run(parser.parse_args())
    steps.run([getattr(run, step.__name__) for step in STEPS])


if __name__ == "__main__":
    main()
