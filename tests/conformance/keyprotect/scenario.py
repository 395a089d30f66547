"""Drives a Key Protect server with IBM's own Python client through the life of its keys.

Every step states what it expects and stops the run where the server does otherwise, so that a
server which passes speaks the protocol that the client was written for. The control port of
devkms moves the clock; nothing else in here knows that the server is not IBM's.

Exit status: 0 when every step holds, 1 at the first that does not.
"""

import argparse
import base64
import json
import os
import uuid

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import ContainerAuthenticator, IAMAuthenticator
from keyprotect import ibm_key_protect_api_v2 as api

import steps
from steps import Mismatch, expect, expect_true

KEY_TYPE = "application/vnd.ibm.kms.key+json"
POLICY_TYPE = "application/vnd.ibm.kms.policy+json"


def b64(raw):
    return base64.b64encode(raw).decode()


def collection(kind, *resources):
    return {"metadata": {"collectionType": kind, "collectionTotal": len(resources)}, "resources": list(resources)}


class Caller:
    """One identity's client, bound to one instance."""

    def __init__(self, url, instance, authenticator):
        self.client = api.IbmKeyProtectApiV2(authenticator=authenticator)
        self.client.set_service_url(url)
        self.instance = instance

    def call(self, method, *args, **kwargs):
        return getattr(self.client, method)(*args, bluemix_instance=self.instance, **kwargs)

    def result(self, method, *args, **kwargs):
        return self.call(method, *args, **kwargs).get_result()

    def act(self, method, key, body_name=None, body=None, **kwargs):
        if body_name:
            kwargs[body_name] = json.dumps(body)
        return self.result(method, id=key, **kwargs)

    def wrap(self, key, **body):
        return self.act("wrap_key", key, "key_action_wrap_body", body)

    def unwrap(self, key, **body):
        return self.act("unwrap_key", key, "key_action_unwrap_body", body)

    def rewrap(self, key, **body):
        return self.act("rewrap_key", key, "key_action_rewrap_body", body)

    def rotate(self, key, body=None):
        response = self.call("rotate_key", id=key, key_action_rotate_body=json.dumps(body or {}))
        expect(response.get_status_code(), 204, "status of a rotation")

    def metadata(self, key):
        return self.result("get_key_metadata", id=key)["resources"][0]

    def create(self, **resource):
        resource = {"type": KEY_TYPE, **resource}
        made = self.call("create_key", key_create_body=json.dumps(collection(KEY_TYPE, resource)))
        expect(made.get_status_code(), 201, "status of a creation")
        return made.get_result()["resources"][0]


def refused(status, code, call, *args, **kwargs):
    """Expects an API error with this status, and this reason code or no reasons at all."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        resource = error.http_response.json()["resources"][0]
        codes = [reason["code"] for reason in resource.get("reasons", [])]
        expect((error.status_code, codes), (status, [code] if code else []), "refusal")
        return resource
    raise Mismatch(f"a call went through that {code or status} should have refused")


class Run:
    def __init__(self, args):
        self.args = args

        def by_api_key(name):
            return Caller(args.url, args.instance, IAMAuthenticator(os.environ[f"API_KEY_{name}"], url=args.url))

        self.by_api_key = by_api_key
        self.reader = by_api_key("READER")
        self.writer = by_api_key("WRITER")
        self.manager = by_api_key("MANAGER")
        self.second_manager = by_api_key("SECOND_MANAGER")
        self.job = by_api_key("JOB")
        self.purger = by_api_key("PURGER")

    def advance(self, seconds):
        url = f"{self.args.control}/_emu/clock/advance"
        requests.post(url, json={"seconds": seconds}, timeout=10).raise_for_status()

    def a_root_key_is_made_and_described(self):
        made = self.writer.create(name="root", description="of the scenario", extractable=False, aliases=["scenario"])
        self.key = made["id"]
        expect_true("payload" not in made, "a root key's material leaves the server")
        seen = self.reader.metadata(self.key)
        expect((seen["state"], seen["extractable"], seen["imported"], seen["keyRingID"]), (1, False, False, "default"), "metadata")
        expect_true(seen["crn"].endswith(f"{self.args.instance}:key:{self.key}"), "the crn names instance and key")
        api.KeyFullRepresentation.from_dict(seen)
        minimal = self.writer.call(
            "create_key", key_create_body=json.dumps(collection(KEY_TYPE, {"name": "minimal"})), prefer="return=minimal")
        expect_true("name" not in minimal.get_result()["resources"][0], "return=minimal shows the id only")

    def keys_are_counted_and_listed(self):
        total = int(self.reader.call("get_key_collection_metadata").get_headers()["Key-Total"])
        listed = self.reader.result("get_keys", limit=5000)
        expect(listed["metadata"]["collectionTotal"], total, "keys listed and counted")
        one = self.reader.result("get_keys", search="exact:alias:scenario")["resources"]
        expect([key["id"] for key in one], [self.key], "search by alias")
        page = self.reader.result("get_keys", limit=1, offset=0, sort="-creationDate")["resources"]
        expect(len(page), 1, "a page of one")

    def a_data_key_is_wrapped_and_unwrapped(self):
        made = self.reader.wrap(self.key, aad=["volume", "file"])
        expect(len(base64.b64decode(made["plaintext"])), 32, "bytes of a data key made by the server")
        self.old = made
        self.first_version = made["keyVersion"]["id"]
        expect(self.first_version, self.reader.metadata(self.key)["keyVersion"]["id"], "version that wrapped")
        opened = self.reader.unwrap(self.key, ciphertext=made["ciphertext"], aad=["volume", "file"])
        expect(opened["plaintext"], made["plaintext"], "data key after unwrap")
        expect_true("rewrappedKeyVersion" not in opened, "nothing to rewrap under the current version")
        given = b64(os.urandom(32))
        wrapped = self.reader.wrap(self.key, plaintext=given)
        expect_true("plaintext" not in wrapped, "a given data key is not repeated")
        expect(self.reader.unwrap(self.key, ciphertext=wrapped["ciphertext"])["plaintext"], given, "given data key")
        by_alias = self.reader.unwrap("scenario", ciphertext=wrapped["ciphertext"])
        expect(by_alias["plaintext"], given, "data key through the alias")

    def wrong_ciphertext_aad_and_bodies_are_refused(self):
        ciphertext = self.old["ciphertext"]
        refused(422, "UNPROCESSABLE_CIPHERTEXT_ERR", self.reader.unwrap, self.key, ciphertext=ciphertext, aad=["file", "volume"])
        refused(422, "UNPROCESSABLE_CIPHERTEXT_ERR", self.reader.unwrap, self.key, ciphertext=b64(b"nonsense"))
        target = refused(400, "INVALID_FIELD_ERR", self.reader.unwrap, self.key, ciphertext="***")["reasons"][0]["target"]
        expect(target["name"], "ciphertext", "field that the refusal names")
        refused(400, "BAD_BODY_ERR", self.writer.act, "unwrap_key", self.key, "key_action_unwrap_body", {"cipher": "x"})
        refused(404, "KEY_NOT_FOUND_ERR", self.reader.metadata, str(uuid.uuid4()))

    def a_rotation_retires_the_version_and_unwrap_brings_the_new_ciphertext(self):
        self.writer.rotate(self.key)
        current = self.reader.metadata(self.key)["keyVersion"]["id"]
        expect_true(current != self.first_version, "a rotation makes another version current")
        opened = self.reader.unwrap(self.key, ciphertext=self.old["ciphertext"], aad=["volume", "file"])
        api.UnwrapKeyResponseBody.from_dict(opened)
        expect(opened["plaintext"], self.old["plaintext"], "data key under a retired version")
        expect(opened["keyVersion"]["id"], self.first_version, "version of the ciphertext sent")
        expect(opened["rewrappedKeyVersion"]["id"], current, "version of the ciphertext returned")
        again = self.reader.unwrap(self.key, ciphertext=opened["ciphertext"], aad=["volume", "file"])
        expect((again["plaintext"], again["keyVersion"]["id"]), (self.old["plaintext"], current), "the new ciphertext")
        refused(409, "KEY_ROTATION_NOT_PERMITTED", self.writer.rotate, self.key)
        self.current = current

    def rewrap_shows_no_data_key(self):
        done = self.reader.rewrap(self.key, ciphertext=self.old["ciphertext"], aad=["volume", "file"])
        api.RewrapKeyResponseBody.from_dict(done)
        expect_true("plaintext" not in done, "rewrap shows the data key")
        expect((done["keyVersion"]["id"], done["rewrappedKeyVersion"]["id"]), (self.first_version, self.current), "versions")
        opened = self.reader.unwrap(self.key, ciphertext=done["ciphertext"], aad=["volume", "file"])
        expect(opened["plaintext"], self.old["plaintext"], "data key after rewrap")

    def versions_are_listed_newest_first(self):
        listed = self.reader.result("get_key_versions", id=self.key, total_count=True)
        api.ListKeyVersions.from_dict(listed)
        expect([v["id"] for v in listed["resources"]], [self.current, self.first_version], "versions")
        expect(listed["metadata"]["totalCount"], 2, "their number")

    def a_disabled_key_refuses_until_it_is_enabled_in_time(self):
        expect(self.manager.call("disable_key", id=self.key).get_status_code(), 204, "status of disable")
        for call in (self.reader.unwrap, self.reader.rewrap):
            refused(409, "KEY_ACTION_INVALID_STATE_ERR", call, self.key, ciphertext=self.old["ciphertext"])
        refused(409, "KEY_ACTION_INVALID_STATE_ERR", self.reader.wrap, self.key)
        expect(self.reader.metadata(self.key)["state"], 2, "state")
        refused(409, "KEY_ACTION_INVALID_STATE_ERR", self.reader.result, "get_key_versions", id=self.key)
        self.reader.result("get_key_versions", id=self.key, all_key_states=True)
        refused(409, "REQ_TOO_EARLY_ERR", self.manager.result, "enable_key", id=self.key)
        self.advance(30)
        expect(self.manager.call("enable_key", id=self.key).get_status_code(), 204, "status of enable")
        opened = self.reader.unwrap(self.key, ciphertext=self.old["ciphertext"], aad=["volume", "file"])
        expect(opened["plaintext"], self.old["plaintext"], "data key after suspension")

    def a_deleted_key_is_gone_until_it_is_restored(self):
        shown = self.manager.call("delete_key", id=self.key, prefer="return=representation")
        expect((shown.get_status_code(), shown.get_result()["resources"][0]["state"]), (200, 5), "deletion, shown")
        refused(410, None, self.reader.unwrap, self.key, ciphertext=self.old["ciphertext"], aad=["volume", "file"])
        refused(410, "KEY_DELETED_ERR", self.reader.wrap, self.key)
        refused(409, "REQ_TOO_EARLY_ERR", self.manager.result, "restore_key", id=self.key)
        self.advance(30)
        expect(self.manager.call("restore_key", id=self.key).get_status_code(), 201, "status of restore")
        opened = self.reader.unwrap(self.key, ciphertext=self.old["ciphertext"], aad=["volume", "file"])
        expect(opened["plaintext"], self.old["plaintext"], "data key after restore")

    def deletion_and_purge_have_their_waiting_times(self):
        key = self.writer.create(name="short-lived", extractable=False)["id"]
        expect(self.manager.call("delete_key", id=key).get_status_code(), 204, "deletion, not shown")
        refused(409, "REQ_TOO_EARLY_ERR", self.purger.result, "purge_key", id=key)
        self.advance(4 * 3600)
        refused(401, "UNAUTHORIZED_ERR", self.by_api_key("MANAGER").result, "purge_key", id=key)
        expect(self.by_api_key("PURGER").call("purge_key", id=key).get_status_code(), 204, "status of a purge")
        refused(404, "KEY_NOT_FOUND_ERR", self.by_api_key("READER").metadata, key)
        # The clock ran past the life of the tokens that the clients still hold.
        self.__init__(self.args)

    def sealed_import(self, material):
        """The importer's side of an import token, in cryptography's own terms."""
        token = self.writer.result("get_import_token")
        public = serialization.load_pem_public_key(base64.b64decode(token["payload"]))
        expect(public.key_size, 4096, "bits of the import token's key")
        iv = os.urandom(12)
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        return {
            "payload": b64(public.encrypt(material, oaep)),
            "encryptedNonce": b64(AESGCM(material).encrypt(iv, base64.b64decode(token["nonce"]), None)),
            "iv": b64(iv),
            "encryptionAlgorithm": "RSAES_OAEP_SHA_256",
        }

    def material_comes_in_through_an_import_token(self):
        made = self.writer.result("post_import_token", expiration=600, max_allowed_retrievals=3)
        expect((made["maxAllowedRetrievals"], made["remainingRetrievals"]), (3, 3), "a new import token")
        material = os.urandom(32)
        sealed = self.sealed_import(material)
        key = self.writer.create(name="imported", extractable=False, **sealed)
        expect(key["imported"], True, "imported")
        wrapped = self.reader.wrap(key["id"])

        wrong_iv = {**sealed, "iv": b64(os.urandom(12))}
        refused(400, "INCORRECT_NONCE_IV_ERR", self.writer.create, name="bad", extractable=False, **wrong_iv)
        other = AESGCM(material)
        iv = os.urandom(12)
        wrong_nonce = {**sealed, "iv": b64(iv), "encryptedNonce": b64(other.encrypt(iv, os.urandom(12), None))}
        refused(400, "INCORRECT_NONCE_ERR", self.writer.create, name="bad", extractable=False, **wrong_nonce)

        refused(400, "KEY_PAYLOAD_REQ_ERR", self.writer.rotate, key["id"])
        self.writer.rotate(key["id"], self.sealed_import(os.urandom(32)))
        opened = self.reader.unwrap(key["id"], ciphertext=wrapped["ciphertext"])
        expect(opened["plaintext"], wrapped["plaintext"], "data key after rotating an imported key")
        expect_true("rewrappedKeyVersion" in opened, "the imported key's first version is retired")

        twin = self.writer.create(name="twin", extractable=False, payload=b64(material))
        opened = self.reader.unwrap(twin["id"], ciphertext=wrapped["ciphertext"])
        expect(opened["plaintext"], wrapped["plaintext"], "data key under another key of the same material")

        self.writer.result("get_import_token")
        refused(409, "IMPORT_TOKEN_EXPIRED_ERR", self.writer.result, "get_import_token")
        late = self.sealed_after_expiry()
        refused(409, "IMPORT_TOKEN_EXPIRED_ERR", self.writer.create, name="late", extractable=False, **late)

    def sealed_after_expiry(self):
        self.writer.result("post_import_token", expiration=300)
        sealed = self.sealed_import(os.urandom(32))
        self.advance(300)
        return sealed

    def policies_are_set_kept_and_enforced(self):
        rotation = {"type": POLICY_TYPE, "rotation": {"enabled": True, "interval_month": 3}}
        put = self.manager.result(
            "put_policy", id=self.key, key_policy_put_body=collection(POLICY_TYPE, rotation), policy="rotation")
        expect(put["resources"][0]["rotation"], {"enabled": True, "interval_month": 3}, "rotation policy")
        api.GetKeyPoliciesOneOfGetKeyPolicyRotation.from_dict(put)
        dual = {"type": POLICY_TYPE, "dualAuthDelete": {"enabled": True}}
        self.manager.result("put_policy", id=self.key, key_policy_put_body=collection(POLICY_TYPE, dual))
        kinds = [sorted(set(p) & {"rotation", "dualAuthDelete"}) for p in self.manager.result("get_policy", id=self.key)["resources"]]
        expect(sorted(kinds), [["dualAuthDelete"], ["rotation"]], "policies of the key")
        refused(409, "AUTHORIZATIONS_NOT_MET", self.manager.result, "delete_key", id=self.key)
        self.manager.result("set_key_for_deletion", id=self.key)
        refused(409, "AUTHORIZATIONS_NOT_MET", self.manager.result, "delete_key", id=self.key)
        expect(self.reader.metadata(self.key)["dualAuthDelete"]["keySetForDeletion"], True, "first authorization")
        self.manager.result("unset_key_for_deletion", id=self.key)
        before = self.reader.metadata(self.key)["keyVersion"]["id"]
        self.advance(3 * 30 * 86400)
        self.__init__(self.args)
        expect_true(self.reader.metadata(self.key)["keyVersion"]["id"] != before, "the policy rotates in its time")
        self.manager.result("set_key_for_deletion", id=self.key)
        self.second_manager.result("delete_key", id=self.key)
        self.advance(30)
        self.manager.result("restore_key", id=self.key)

    def instance_policies_bind_new_keys(self):
        def put(kind, enabled, attributes=None):
            data = {"enabled": enabled, **({"attributes": attributes} if attributes else {})}
            body = collection(POLICY_TYPE, {"policy_type": kind, "policy_data": data})
            expect(self.manager.call("put_instance_policy", instance_policy_put_body=body, policy=kind).get_status_code(), 204, kind)

        put("keyCreateImportAccess", True, {"create_standard_key": False, "enforce_token": True})
        refused(409, "KEY_CREATE_IMPORT_ACCESS_ERR", self.writer.create, name="std", extractable=True)
        refused(409, "KEY_CREATE_IMPORT_ACCESS_ERR", self.writer.create, name="raw", extractable=False, payload=b64(bytes(32)))
        put("keyCreateImportAccess", False)
        put("dualAuthDelete", True)
        key = self.writer.create(name="born-dual", extractable=False)
        expect(key["dualAuthDelete"]["enabled"], True, "policy of a new key")
        put("dualAuthDelete", False)
        kinds = {p["policy_type"] for p in self.manager.result("get_instance_policy")["resources"]}
        expect(kinds, {"keyCreateImportAccess", "dualAuthDelete"}, "instance policies")
        self.reader.result("get_allowed_ip_port")

    def a_standard_key_keeps_and_shows_its_payload(self):
        secret = b64(b"of a standard key")
        key = self.writer.create(name="standard", extractable=True, payload=secret)["id"]
        expect(self.writer.result("get_key", id=key)["resources"][0]["payload"], secret, "payload")
        refused(401, "UNAUTHORIZED_ERR", self.reader.result, "get_key", id=key)
        refused(400, "KEY_ROOT_REQ_ERR", self.reader.wrap, key)

    def aliases_and_rings_name_and_group_keys(self):
        made = self.writer.result("create_key_alias", id=self.key, alias="second-name")
        expect(made["resources"][0]["alias"], "second-name", "alias")
        expect(self.reader.metadata("second-name")["id"], self.key, "key behind the alias")
        refused(409, "KEY_ALIAS_NOT_UNIQUE_ERR", self.writer.result, "create_key_alias", id=self.key, alias="second-name")
        expect(self.writer.call("delete_key_alias", id=self.key, alias="second-name").get_status_code(), 204, "alias deletion")
        refused(404, "KEY_NOT_FOUND_ERR", self.reader.metadata, "second-name")

        expect(self.writer.call("create_key_ring", key_ring_id="ring-1").get_status_code(), 201, "ring creation")
        rings = self.reader.result("list_key_rings", total_count=True)
        expect({r["id"] for r in rings["resources"]}, {"default", "ring-1"}, "rings")
        self.manager.result("patch_key", id=self.key, key_patch_body=json.dumps({"keyRingID": "ring-1"}))
        self.reader.result("get_key_metadata", id=self.key, x_kms_key_ring="ring-1")
        refused(404, "KEY_NOT_FOUND_ERR", self.reader.result, "get_key_metadata", id=self.key, x_kms_key_ring="default")
        refused(409, "KEY_RING_NOT_EMPTY_ERR", self.manager.result, "delete_key_ring", key_ring_id="ring-1")
        self.manager.result("patch_key", id=self.key, key_patch_body=json.dumps({"keyRingID": "default"}))
        expect(self.manager.call("delete_key_ring", key_ring_id="ring-1").get_status_code(), 204, "ring deletion")
        expect(self.reader.result("get_registrations", id=self.key)["resources"], [], "registrations")

    def each_role_is_held_to_its_actions(self):
        denied = (401, "UNAUTHORIZED_ERR")
        refused(*denied, self.reader.rotate, self.key)
        refused(*denied, self.reader.result, "disable_key", id=self.key)
        refused(*denied, self.reader.result, "post_import_token")
        refused(*denied, self.writer.result, "disable_key", id=self.key)
        refused(*denied, self.writer.result, "delete_key", id=self.key)
        refused(*denied, self.writer.result, "get_policy", id=self.key)
        refused(*denied, self.purger.metadata, self.key)
        wrapped = self.reader.wrap(self.key)
        self.job.metadata(self.key)
        self.job.rewrap(self.key, ciphertext=wrapped["ciphertext"])
        refused(*denied, self.job.unwrap, self.key, ciphertext=wrapped["ciphertext"])
        refused(*denied, self.job.wrap, self.key)
        stranger = Caller(self.args.url, str(uuid.uuid4()), self.reader.client.authenticator)
        refused(*denied, stranger.metadata, self.key)

    def an_unknown_api_key_gets_no_token(self):
        nobody = Caller(self.args.url, self.args.instance, IAMAuthenticator("unknown", url=self.args.url))
        try:
            nobody.metadata(self.key)
        except ApiException as error:
            expect((error.status_code, error.http_response.json()["errorCode"]), (400, "BXNIM0415E"), "refusal")
        else:
            raise Mismatch("an unknown API key got a token")

    def a_service_account_token_stands_for_a_trusted_profile(self):
        authenticator = ContainerAuthenticator(
            iam_profile_name="pods", cr_token_filename=self.args.service_account_token, url=self.args.url)
        pod = Caller(self.args.url, self.args.instance, authenticator)
        pod.unwrap(self.key, ciphertext=pod.wrap(self.key)["ciphertext"])
        refused(401, "UNAUTHORIZED_ERR", pod.rotate, self.key)


STEPS = [
    Run.a_root_key_is_made_and_described,
    Run.keys_are_counted_and_listed,
    Run.a_data_key_is_wrapped_and_unwrapped,
    Run.wrong_ciphertext_aad_and_bodies_are_refused,
    Run.a_rotation_retires_the_version_and_unwrap_brings_the_new_ciphertext,
    Run.rewrap_shows_no_data_key,
    Run.versions_are_listed_newest_first,
    Run.a_disabled_key_refuses_until_it_is_enabled_in_time,
    Run.a_deleted_key_is_gone_until_it_is_restored,
    Run.deletion_and_purge_have_their_waiting_times,
    Run.material_comes_in_through_an_import_token,
    Run.policies_are_set_kept_and_enforced,
    Run.instance_policies_bind_new_keys,
    Run.a_standard_key_keeps_and_shows_its_payload,
    Run.aliases_and_rings_name_and_group_keys,
    Run.each_role_is_held_to_its_actions,
    Run.an_unknown_api_key_gets_no_token,
    Run.a_service_account_token_stands_for_a_trusted_profile,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="KMS and IAM")
    parser.add_argument("--control", required=True, help="control port of devkms")
    parser.add_argument("--instance", required=True, help="GUID of the service instance")
    parser.add_argument("--service-account-token", required=True, help="file with a token for the profile `pods`")
    run = Run(parser.parse_args())
    steps.run([getattr(run, step.__name__) for step in STEPS])


if __name__ == "__main__":
    main()
