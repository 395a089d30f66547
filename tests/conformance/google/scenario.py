"""Drives a Cloud KMS server with Google's own Python client through the life of its keys, over REST.

Every step states what it expects and stops the run where the server does otherwise, so that a
server which passes speaks the protocol that the client was written for. Tokens are had by
google-auth, which knows the server from the key files and nothing else of it.

Exit status: 0 when every step holds, 1 at the first that does not.
"""

import argparse
import datetime
import json
import pathlib

import google.auth.exceptions
import requests
from google.api_core import exceptions
from google.auth import identity_pool
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceRestTransport
from google.oauth2 import service_account

import steps
from steps import Mismatch, expect, expect_true

SCOPE = "https://www.googleapis.com/auth/cloudkms"
State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState


def no_token(call, what):
    """google-auth gets no token, and says why."""
    try:
        call()
    except google.auth.exceptions.GoogleAuthError as error:
        expect_true("invalid_grant" in str(error), f"{what}: the reason is one of OAuth: {error}")
        return
    raise Mismatch(f"{what}: a token was given")


def refused(word, call, what):
    """The client raises the error that belongs to the HTTP status; the word stands in the body that it keeps."""
    try:
        call()
    except exceptions.GoogleAPICallError as error:
        expect(error.response.json()["error"]["status"], word, what)
        return error
    raise Mismatch(f"{what}: expected {word}, and it succeeded")


def violations(error):
    """What a failed precondition names, as the client parsed it."""
    found = [violation for detail in error.details for violation in detail.get("violations", [])]
    return [(violation["type"], violation["subject"]) for violation in found]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def client(address, credentials):
    transport = KeyManagementServiceRestTransport(host=address, credentials=credentials, url_scheme="http")
    return kms_v1.KeyManagementServiceClient(transport=transport)


class Run:
    """Everything that the steps share."""

    def __init__(self, args):
        self.args = args
        self.files = pathlib.Path(args.files)
        self.owner = self.by_key("owner")
        self.user = self.by_key("user")
        self.nobody = self.by_key("nobody")
        self.ring = f"{args.location}/keyRings/storage"
        self.key = f"{self.ring}/cryptoKeys/one"
        self.other = f"{self.ring}/cryptoKeys/two"

    def credentials(self, name):
        path = self.files / f"{name}.json"
        return service_account.Credentials.from_service_account_file(path, scopes=[SCOPE])

    def by_key(self, name):
        return client(self.args.address, self.credentials(name))

    def version(self, number, key=None):
        return f"{key or self.key}/cryptoKeyVersions/{number}"

    def encrypt(self, plaintext, aad=b"context", who=None, name=None):
        request = {
            "name": name or self.key,
            "plaintext": plaintext,
            "additional_authenticated_data": aad,
            "plaintext_crc32c": crc32c(plaintext),
            "additional_authenticated_data_crc32c": crc32c(aad),
        }
        reply = (who or self.user).encrypt(request=request)
        expect_true(reply.verified_plaintext_crc32c, "the plaintext's checksum is said to be compared")
        expect_true(reply.verified_additional_authenticated_data_crc32c, "the context's checksum too")
        expect(reply.ciphertext_crc32c, crc32c(reply.ciphertext), "checksum of the ciphertext")
        return reply

    def decrypt(self, ciphertext, aad=b"context", who=None, name=None):
        request = {
            "name": name or self.key,
            "ciphertext": ciphertext,
            "additional_authenticated_data": aad,
            "ciphertext_crc32c": crc32c(ciphertext),
            "additional_authenticated_data_crc32c": crc32c(aad),
        }
        reply = (who or self.user).decrypt(request=request)
        expect(reply.plaintext_crc32c, crc32c(reply.plaintext), "checksum of the plaintext")
        return reply

    def set_state(self, number, state):
        version = {"name": self.version(number), "state": state}
        return self.owner.update_crypto_key_version(crypto_key_version=version, update_mask={"paths": ["state"]})

    def a_key_file_becomes_a_token_and_a_forged_one_does_not(self):
        credentials = self.credentials("owner")
        credentials.refresh(Request())
        expect_true(credentials.valid, "a token that is good")
        left = credentials.expiry - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        expect_true(3500 < left.total_seconds() <= 3600, f"it lives for an hour: {left}")
        forged = self.credentials("forged")
        no_token(lambda: forged.refresh(Request()), "a forged assertion")

    def rings_and_keys_are_made_once(self):
        made = self.owner.create_key_ring(parent=self.args.location, key_ring_id="storage", key_ring={})
        expect(made.name, self.ring, "name of the ring")
        expect(self.owner.get_key_ring(name=self.ring).name, self.ring, "the ring is there")
        purpose = kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT
        for name in ["one", "two"]:
            made = self.owner.create_crypto_key(
                parent=self.ring, crypto_key_id=name, crypto_key={"purpose": purpose}
            )
            expect(made.name, f"{self.ring}/cryptoKeys/{name}", "name of the key")
            expect(made.primary.state, State.ENABLED, "its first version is enabled")
        read = self.owner.get_crypto_key(name=self.key)
        expect(read.purpose, purpose, "purpose")
        expect(read.primary.name, self.version(1), "primary version")
        expect(read.primary.protection_level, kms_v1.ProtectionLevel.SOFTWARE, "protection level")
        expect([key.name for key in self.owner.list_crypto_keys(parent=self.ring)], [self.key, self.other], "keys")
        again = {"parent": self.ring, "crypto_key_id": "one", "crypto_key": {"purpose": purpose}}
        refused("ALREADY_EXISTS", lambda: self.owner.create_crypto_key(request=again), "the same key again")

    def what_is_encrypted_is_decrypted_with_the_same_context_and_key_only(self):
        plaintext = bytes(range(256))[:32]
        sealed = self.encrypt(plaintext)
        expect(sealed.name, self.version(1), "the version that encrypted")
        expect_true(self.encrypt(plaintext).ciphertext != sealed.ciphertext, "two ciphertexts differ")
        opened = self.decrypt(sealed.ciphertext)
        expect((opened.plaintext, opened.used_primary), (plaintext, True), "what was encrypted")
        damaged = sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
        for call, what in [
            (lambda: self.decrypt(sealed.ciphertext, aad=b"other"), "another context"),
            (lambda: self.decrypt(sealed.ciphertext, name=self.other), "another key"),
            (lambda: self.decrypt(damaged), "a damaged ciphertext"),
            (lambda: self.decrypt(b"no ciphertext"), "no ciphertext"),
        ]:
            refused("INVALID_ARGUMENT", call, what)

    def a_checksum_that_does_not_fit_is_an_error(self):
        request = {"name": self.key, "plaintext": b"text", "plaintext_crc32c": crc32c(b"text") ^ 1}
        error = refused("INVALID_ARGUMENT", lambda: self.user.encrypt(request=request), "of a plaintext")
        expect_true("checksum" in str(error), f"the error says so: {error}")
        sealed = self.encrypt(b"text").ciphertext
        request = {"name": self.key, "ciphertext": sealed, "ciphertext_crc32c": crc32c(sealed) ^ 1}
        error = refused("INVALID_ARGUMENT", lambda: self.user.decrypt(request=request), "of a ciphertext")
        expect_true("checksum" in str(error), f"the error says so: {error}")
        without = self.user.encrypt(request={"name": self.key, "plaintext": b"text"})
        expect(without.verified_plaintext_crc32c, False, "one that was not sent was not compared")

    def a_new_version_encrypts_once_it_is_the_primary_one(self):
        self.old = self.encrypt(b"old").ciphertext
        made = self.owner.create_crypto_key_version(parent=self.key, crypto_key_version={})
        expect((made.name, made.state), (self.version(2), State.ENABLED), "the new version")
        expect(self.encrypt(b"x").name, self.version(1), "it is not the primary one yet")
        changed = self.owner.update_crypto_key_primary_version(name=self.key, crypto_key_version_id="2")
        expect(changed.primary.name, self.version(2), "primary version")
        sealed = self.encrypt(b"new")
        expect(sealed.name, self.version(2), "the version that encrypted")
        opened = self.decrypt(self.old)
        expect((opened.plaintext, opened.used_primary), (b"old", False), "the old version decrypts on")
        named = self.encrypt(b"x", name=self.version(1))
        expect(named.name, self.version(1), "a version can be named to encrypt")

    def versions_are_listed_page_by_page(self):
        pages = list(self.owner.list_crypto_key_versions(request={"parent": self.key, "page_size": 1}).pages)
        expect(len(pages), 2, "pages of one")
        names = [version.name for page in pages for version in page.crypto_key_versions]
        expect(names, [self.version(1), self.version(2)], "versions")
        expect(pages[0].total_size, 2, "how many there are")
        one = self.owner.get_crypto_key_version(name=self.version(1))
        expect_true(one.create_time is not None, "it has its time")

    def a_disabled_version_refuses_what_it_encrypted_and_nothing_else(self):
        new = self.encrypt(b"new").ciphertext
        expect(self.set_state(1, State.DISABLED).state, State.DISABLED, "state")
        error = refused("FAILED_PRECONDITION", lambda: self.decrypt(self.old), "a disabled version")
        expect_true("DISABLED" in str(error), f"the error says the state: {error}")
        expect(violations(error), [("KEY_DISABLED", self.version(1))], "violations")
        expect(self.decrypt(new).plaintext, b"new", "the other version")
        self.set_state(2, State.DISABLED)
        refused("FAILED_PRECONDITION", lambda: self.encrypt(b"x"), "a disabled primary version")
        expect(self.owner.get_crypto_key(name=self.key).primary.state, State.DISABLED, "the key shows it")
        for number in [1, 2]:
            self.set_state(number, State.ENABLED)
        expect(self.decrypt(self.old).plaintext, b"old", "enabled again")

    def a_version_waits_for_its_destruction_and_comes_back_disabled(self):
        gone = self.owner.destroy_crypto_key_version(name=self.version(1))
        expect(gone.state, State.DESTROY_SCHEDULED, "state")
        wait = gone.destroy_time - datetime.datetime.now(datetime.timezone.utc)
        expect_true(29 <= wait.days <= 30, f"it waits for thirty days: {wait}")
        error = refused("FAILED_PRECONDITION", lambda: self.decrypt(self.old), "it refuses")
        expect(violations(error), [("KEY_DESTROY_SCHEDULED", self.version(1))], "violations")
        again = lambda: self.owner.destroy_crypto_key_version(name=self.version(1))
        refused("FAILED_PRECONDITION", again, "to destroy it twice")
        refused("FAILED_PRECONDITION", lambda: self.set_state(1, State.ENABLED), "to enable it")
        back = self.owner.restore_crypto_key_version(name=self.version(1))
        expect(back.state, State.DISABLED, "it comes back disabled")
        self.set_state(1, State.ENABLED)
        expect(self.decrypt(self.old).plaintext, b"old", "enabled again")
        refused(
            "FAILED_PRECONDITION",
            lambda: self.owner.restore_crypto_key_version(name=self.version(1)),
            "to restore what waits for nothing",
        )

    def a_key_keeps_the_time_of_its_next_rotation(self):
        day = datetime.timedelta(days=1)
        soon = datetime.datetime.now(datetime.timezone.utc) + day
        mask = {"paths": ["rotation_period", "next_rotation_time"]}
        key = {"name": self.key, "rotation_period": day * 30, "next_rotation_time": soon}
        changed = self.owner.update_crypto_key(crypto_key=key, update_mask=mask)
        expect(changed.rotation_period, day * 30, "period")
        expect(int(changed.next_rotation_time.timestamp()), int(soon.timestamp()), "next time")
        short = {"name": self.key, "rotation_period": day / 2, "next_rotation_time": soon}
        refused(
            "INVALID_ARGUMENT",
            lambda: self.owner.update_crypto_key(crypto_key=short, update_mask=mask),
            "half a day",
        )
        off = self.owner.update_crypto_key(crypto_key={"name": self.key}, update_mask=mask)
        expect("rotation_period" in off, False, "turned off")

    def what_is_not_there_is_shown_to_those_who_may_look(self):
        missing = f"{self.ring}/cryptoKeys/missing"
        refused("NOT_FOUND", lambda: self.owner.get_crypto_key(name=missing), "a key")
        refused("NOT_FOUND", lambda: self.owner.get_crypto_key_version(name=self.version(9)), "a version")
        refused("NOT_FOUND", lambda: self.encrypt(b"x", name=missing), "a key, to encrypt")
        refused("PERMISSION_DENIED", lambda: self.nobody.get_crypto_key(name=missing), "by nobody")

    def each_account_is_held_to_its_roles(self):
        sealed = self.encrypt(b"x").ciphertext
        for call, permission in [
            (lambda: self.decrypt(sealed, who=self.nobody), "cloudkms.cryptoKeyVersions.useToDecrypt"),
            (lambda: self.user.get_crypto_key(name=self.key), "cloudkms.cryptoKeys.get"),
            (lambda: self.user.destroy_crypto_key_version(name=self.version(1)), "cloudkms.cryptoKeyVersions.destroy"),
        ]:
            error = refused("PERMISSION_DENIED", call, permission)
            expect(error.reason, "IAM_PERMISSION_DENIED", "reason")
            expect(error.metadata["permission"], permission, "permission")

    def a_token_that_is_not_known_is_replaced_by_the_client(self):
        headers = {"Authorization": "Bearer ya29.nothing"}
        answer = requests.get(f"http://{self.args.address}/v1/{self.key}", headers=headers, timeout=10)
        expect((answer.status_code, answer.json()["error"]["status"]), (401, "UNAUTHENTICATED"), "the answer to it")
        credentials = self.credentials("owner")
        credentials.refresh(Request())
        credentials.token = "ya29.nothing"
        expect(client(self.args.address, credentials).get_crypto_key(name=self.key).name, self.key, "the key")
        expect_true(credentials.token != "ya29.nothing", "there is another token")

    def a_cluster_s_token_stands_for_a_service_account(self):
        url = f"http://{self.args.address}"

        def federated(token):
            info = {
                "type": "external_account",
                "audience": f"//iam.googleapis.com/{self.args.provider}",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{url}/v1/token",
                "service_account_impersonation_url":
                    f"{url}/v1/projects/-/serviceAccounts/{self.args.account}:generateAccessToken",
                "credential_source": {"file": str(self.files / token)},
            }
            return identity_pool.Credentials.from_info(info, scopes=[SCOPE])

        sealed = self.encrypt(b"x", who=client(self.args.address, federated("token")))
        expect(self.decrypt(sealed.ciphertext).plaintext, b"x", "what the pod encrypted")
        old = federated("old-token")
        no_token(lambda: old.refresh(Request()), "a token that ended")

    def words_and_numbers_of_enumerations_are_both_spoken(self):
        session = AuthorizedSession(self.credentials("owner"))
        url = f"http://{self.args.address}/v1/{self.key}"
        words = session.get(url).json()
        expect((words["purpose"], words["primary"]["state"]), ("ENCRYPT_DECRYPT", "ENABLED"), "words")
        numbers = session.get(url, params={"$alt": "json;enum-encoding=int"}).json()
        expect((numbers["purpose"], numbers["primary"]["state"]), (1, 1), "numbers")
        unknown = session.post(f"{url}:encrypt", data=json.dumps({"plaintext": "eA==", "unknown": 1}))
        expect((unknown.status_code, unknown.json()["error"]["status"]), (400, "INVALID_ARGUMENT"), "unknown field")


STEPS = [
    Run.a_key_file_becomes_a_token_and_a_forged_one_does_not,
    Run.rings_and_keys_are_made_once,
    Run.what_is_encrypted_is_decrypted_with_the_same_context_and_key_only,
    Run.a_checksum_that_does_not_fit_is_an_error,
    Run.a_new_version_encrypts_once_it_is_the_primary_one,
    Run.versions_are_listed_page_by_page,
    Run.a_disabled_version_refuses_what_it_encrypted_and_nothing_else,
    Run.a_version_waits_for_its_destruction_and_comes_back_disabled,
    Run.a_key_keeps_the_time_of_its_next_rotation,
    Run.what_is_not_there_is_shown_to_those_who_may_look,
    Run.each_account_is_held_to_its_roles,
    Run.a_token_that_is_not_known_is_replaced_by_the_client,
    Run.a_cluster_s_token_stands_for_a_service_account,
    Run.words_and_numbers_of_enumerations_are_both_spoken,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True, help="host and port, for plain http")
    parser.add_argument("--location", required=True, help="projects/P/locations/L, where the owner may make rings")
    parser.add_argument("--provider", required=True, help="a provider of workload identity, without its host")
    parser.add_argument("--account", required=True, help="the service account that its subject may speak for")
    parser.add_argument("--files", required=True, help="folder with the key files and the tokens")
    run = Run(parser.parse_args())
    steps.run([getattr(run, step.__name__) for step in STEPS])


if __name__ == "__main__":
    main()
