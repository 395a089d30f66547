"""Drives a server of AWS KMS and STS with AWS's own Python client through the life of a key.

Every step states what it expects and stops the run where the server does otherwise. Besides, each
answer is held against the model of the service that comes with the client: a field that the model
does not have, and an error that the model does not name for the operation, stop the run too.
Nothing in here knows that the server is not AWS.

Exit status: 0 when every step holds, 1 at the first that does not.
"""

import argparse
import json
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import steps
from steps import Mismatch, expect, expect_true

REGION = "eu-central-1"
CONTEXT = {"cofferdam-context": "a-hash", "other": "text with spaces, und Umlaute: äöü"}

# Errors of the signature and of permissions, which belong to every operation and stand in no model.
COMMON = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "UnrecognizedClientException",
    "ValidationException",
}


def fields_of(shape, value, path):
    """Every field of an answer is one that the model has, all the way down."""
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        expect_true(not unknown, f"{path} has fields that the model does not know: {sorted(unknown)}")
        for name, inner in value.items():
            fields_of(shape.members[name], inner, f"{path}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            fields_of(shape.member, inner, f"{path}[]")
    elif shape.type_name in ("timestamp", "integer", "long"):
        expect_true(isinstance(value, (int, float)), f"{path} is a number")
    elif shape.type_name == "boolean":
        expect_true(isinstance(value, bool), f"{path} is true or false")
    else:
        expect_true(isinstance(value, str), f"{path} is text")
        allowed = getattr(shape, "enum", None)
        expect_true(not allowed or value in allowed, f"{path} is {value!r}, which the model does not have")


def hold_against_model(http_response, parsed, model, **_):
    # The client's own list of headers has names in lower case.
    headers = {name.lower(): value for name, value in http_response.headers.items()}
    expect(headers["content-type"], "application/x-amz-json-1.1", "content type")
    expect_true("x-amzn-requestid" in headers, "an answer has a request id")
    expect_true("date" in headers, "an answer has a date")
    body = json.loads(http_response.content) if http_response.content else {}
    if http_response.status_code == 200:
        if model.output_shape is None:
            expect(body, {}, f"{model.name} answers nothing")
        else:
            fields_of(model.output_shape, body, model.name)
        return
    expect(set(body), {"__type", "message"}, f"the error of {model.name}")
    named = {shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}
    named |= {shape.name for shape in model.error_shapes} | COMMON
    expect_true(body["__type"] in named, f"{model.name} does not fail with {body['__type']}")


def client(service, url, **who):
    made = boto3.session.Session().client(
        service, endpoint_url=url, region_name=REGION, config=Config(retries={"max_attempts": 0}), **who
    )
    if service == "kms":
        made.meta.events.register("after-call.kms", hold_against_model)
    return made


def refused(code, call, **what):
    try:
        answer = call(**what)
    except ClientError as error:
        expect(error.response["Error"]["Code"], code, "the error")
        expect(error.response["ResponseMetadata"]["HTTPStatusCode"], 400, "its status")
        return error.response["Error"]["Message"]
    raise Mismatch(f"expected {code}, got {sorted(answer)}")


class Run:
    def __init__(self, url, key, other):
        self.url = url
        self.key = key
        self.other = other
        self.owner = self.user("owner")
        self.data = self.user("data")
        self.rewrap = self.user("rewrap")
        self.nobody = self.user("nobody")

    def user(self, name):
        return client(
            "kms",
            self.url,
            aws_access_key_id=os.environ[f"ID_{name.upper()}"],
            aws_secret_access_key=os.environ[f"SECRET_{name.upper()}"],
        )

    # The steps, in their order.

    def a_key_is_made_and_described(self):
        made = self.owner.create_key(Description="for a scenario")["KeyMetadata"]
        expect(made["KeyState"], "Enabled", "a new key's state")
        self.made = made["KeyId"]
        seen = self.owner.describe_key(KeyId=made["Arn"])["KeyMetadata"]
        expect(seen, made, "what is said of a key twice")
        self.owner.create_alias(AliasName="alias/scenario", TargetKeyId=self.made)
        by_alias = self.owner.describe_key(KeyId="alias/scenario")["KeyMetadata"]
        expect(by_alias["Arn"], made["Arn"], "an alias is the key")
        listed = [key["KeyId"] for key in self.owner.list_keys()["Keys"]]
        expect_true(self.made in listed and self.key in listed, "both keys are listed")

    def a_data_key_is_generated_and_decrypted(self):
        made = self.data.generate_data_key(KeyId=self.key, KeySpec="AES_256", EncryptionContext=CONTEXT)
        expect(len(made["Plaintext"]), 32, "bytes of a data key")
        opened = self.data.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
        expect(opened["Plaintext"], made["Plaintext"], "the data key")
        expect(opened["KeyMaterialId"], made["KeyMaterialId"], "the material that sealed it")
        self.sealed, self.plain, self.first = made["CiphertextBlob"], made["Plaintext"], made["KeyMaterialId"]

    def encrypt_says_nothing_of_the_material(self):
        sealed = self.data.encrypt(KeyId=self.key, Plaintext=b"\xff\x00text", EncryptionContext=CONTEXT)
        expect_true("KeyMaterialId" not in sealed, "AWS does not say it here")
        opened = self.data.decrypt(CiphertextBlob=sealed["CiphertextBlob"], KeyId=self.key, EncryptionContext=CONTEXT)
        expect(opened["Plaintext"], b"\xff\x00text", "the plaintext")

    def context_and_blob_must_be_the_right_ones(self):
        for context in ({}, {"cofferdam-context": "a-hash"}, {**CONTEXT, "other": "x"}, {**CONTEXT, "more": ""}):
            refused("InvalidCiphertextException", self.data.decrypt, CiphertextBlob=self.sealed, EncryptionContext=context)
        for at in range(0, len(self.sealed), 7):
            broken = bytearray(self.sealed)
            broken[at] ^= 1
            refused("InvalidCiphertextException", self.data.decrypt,
                    CiphertextBlob=bytes(broken), KeyId=self.key, EncryptionContext=CONTEXT)
        refused("IncorrectKeyException", self.owner.decrypt,
                CiphertextBlob=self.sealed, KeyId=self.made, EncryptionContext=CONTEXT)

    def a_rotation_makes_a_new_material_and_the_old_one_opens(self):
        self.owner.rotate_key_on_demand(KeyId=self.key)
        current = self.data.describe_key(KeyId=self.key)["KeyMetadata"]["CurrentKeyMaterialId"]
        expect_true(current != self.first, "another material")
        opened = self.data.decrypt(CiphertextBlob=self.sealed, EncryptionContext=CONTEXT)
        expect((opened["Plaintext"], opened["KeyMaterialId"]), (self.plain, self.first), "the old blob")
        self.second = current

    def rotations_are_listed_in_pages(self):
        pages = self.owner.get_paginator("list_key_rotations")
        pages = list(pages.paginate(KeyId=self.key, IncludeKeyMaterial="ALL_KEY_MATERIAL", PaginationConfig={"PageSize": 1}))
        expect(len(pages), 2, "pages")
        listed = [entry for page in pages for entry in page["Rotations"]]
        states = {entry["KeyMaterialId"]: entry["KeyMaterialState"] for entry in listed}
        expect(states, {self.first: "NON_CURRENT", self.second: "CURRENT"}, "the materials")
        dates = {entry["KeyMaterialId"]: "RotationDate" in entry for entry in listed}
        expect(dates, {self.first: False, self.second: True}, "which were made by a rotation")
        only = self.owner.list_key_rotations(KeyId=self.key)["Rotations"]
        expect([entry["KeyMaterialId"] for entry in only], [self.second], "rotations alone")

    def re_encryption_moves_to_the_current_material(self):
        moved = self.rewrap.re_encrypt(
            CiphertextBlob=self.sealed, SourceKeyId=self.key, DestinationKeyId=self.key,
            SourceEncryptionContext=CONTEXT, DestinationEncryptionContext=CONTEXT,
        )
        materials = (moved["SourceKeyMaterialId"], moved["DestinationKeyMaterialId"])
        expect(materials, (self.first, self.second), "from one to the other")
        opened = self.data.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext=CONTEXT)
        expect((opened["Plaintext"], opened["KeyMaterialId"]), (self.plain, self.second), "what was moved")

    def who_rewraps_sees_no_key_and_leads_it_nowhere(self):
        refused("AccessDeniedException", self.rewrap.decrypt, CiphertextBlob=self.sealed, EncryptionContext=CONTEXT)
        for caller in (self.rewrap, self.data):
            # Both may rewrap on either key, but not from one to the other.
            for key in (self.other, self.made):
                refused("AccessDeniedException", caller.re_encrypt, CiphertextBlob=self.sealed,
                        SourceEncryptionContext=CONTEXT, DestinationKeyId=key)
            refused("AccessDeniedException", caller.rotate_key_on_demand, KeyId=self.key)
            refused("AccessDeniedException", caller.disable_key, KeyId=self.key)
        refused("AccessDeniedException", self.nobody.describe_key, KeyId=self.key)
        # What one may not do with one key, another permission for another key does not give.
        moved = self.owner.re_encrypt(CiphertextBlob=self.sealed, SourceEncryptionContext=CONTEXT, DestinationKeyId=self.made)
        refused("AccessDeniedException", self.data.decrypt, CiphertextBlob=moved["CiphertextBlob"])

    def the_services_own_rotation_is_set_and_unset(self):
        expect(self.data.get_key_rotation_status(KeyId=self.key)["KeyRotationEnabled"], False, "at first")
        self.owner.enable_key_rotation(KeyId=self.key, RotationPeriodInDays=180)
        status = self.data.get_key_rotation_status(KeyId=self.key)
        expect((status["KeyRotationEnabled"], status["RotationPeriodInDays"]), (True, 180), "then")
        self.owner.disable_key_rotation(KeyId=self.key)
        expect(self.data.get_key_rotation_status(KeyId=self.key)["KeyRotationEnabled"], False, "in the end")

    def a_disabled_key_does_nothing_until_it_is_enabled(self):
        self.owner.disable_key(KeyId=self.key)
        expect(self.data.describe_key(KeyId=self.key)["KeyMetadata"]["KeyState"], "Disabled", "the state")
        for call, what in (
            (self.data.generate_data_key, {"KeyId": self.key, "KeySpec": "AES_256"}),
            (self.data.encrypt, {"KeyId": self.key, "Plaintext": b"x"}),
            (self.data.decrypt, {"CiphertextBlob": self.sealed, "EncryptionContext": CONTEXT}),
            (self.owner.rotate_key_on_demand, {"KeyId": self.key}),
        ):
            message = refused("DisabledException", call, **what)
            expect_true(message.endswith(" is disabled."), message)
        self.owner.list_key_rotations(KeyId=self.key)
        self.owner.enable_key(KeyId=self.key)
        opened = self.data.decrypt(CiphertextBlob=self.sealed, EncryptionContext=CONTEXT)
        expect(opened["Plaintext"], self.plain, "afterwards")

    def a_key_to_be_deleted_does_nothing_and_comes_back_disabled(self):
        told = self.owner.schedule_key_deletion(KeyId=self.key, PendingWindowInDays=7)
        expect(told["KeyState"], "PendingDeletion", "the state")
        message = refused("KMSInvalidStateException", self.data.decrypt,
                          CiphertextBlob=self.sealed, EncryptionContext=CONTEXT)
        expect_true(message.endswith(" is pending deletion."), message)
        seen = self.data.describe_key(KeyId=self.key)["KeyMetadata"]
        expect(seen["DeletionDate"], told["DeletionDate"], "when")
        refused("KMSInvalidStateException", self.owner.enable_key, KeyId=self.key)
        self.owner.cancel_key_deletion(KeyId=self.key)
        expect(self.data.describe_key(KeyId=self.key)["KeyMetadata"]["KeyState"], "Disabled", "the state")
        refused("KMSInvalidStateException", self.owner.cancel_key_deletion, KeyId=self.key)
        self.owner.enable_key(KeyId=self.key)

    def what_is_not_there_is_not_found(self):
        missing = "99999999-9999-4999-8999-999999999999"
        for name in (missing, "alias/missing", "no-uuid", f"arn:aws:kms:{REGION}:111122223333:key/{missing}"):
            refused("NotFoundException", self.owner.describe_key, KeyId=name)
        refused("NotFoundException", self.owner.disable_key, KeyId="alias/scenario")

    def only_right_signatures_count(self):
        user, secret = os.environ["ID_DATA"], os.environ["SECRET_DATA"]
        for wrong, code in (
            ({"aws_access_key_id": user, "aws_secret_access_key": secret + "x"}, "InvalidSignatureException"),
            ({"aws_access_key_id": "AKIAUNKNOWN", "aws_secret_access_key": secret}, "UnrecognizedClientException"),
            ({"aws_access_key_id": user, "aws_secret_access_key": secret, "aws_session_token": "x"},
             "UnrecognizedClientException"),
        ):
            refused(code, client("kms", self.url, **wrong).describe_key, KeyId=self.key)
        changed = self.user("data")
        def tamper(request, **_):
            request.body = request.body.replace(b"KeyId", b"KeyID")
        changed.meta.events.register("before-send.kms", tamper)
        refused("InvalidSignatureException", changed.describe_key, KeyId=self.key)

    def a_credentials_file_is_the_one_that_we_write(self):
        kms = client("kms", self.url)
        expect(kms.describe_key(KeyId=self.key)["KeyMetadata"]["KeyId"], self.key, "by the file's keys")

    def a_role_is_taken_with_a_token(self):
        role, token = os.environ["ROLE"], os.environ["TOKEN"]
        sts = client("sts", self.url, aws_access_key_id="unused", aws_secret_access_key="unused")
        took = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="scenario", WebIdentityToken=token)
        expect(took["AssumedRoleUser"]["Arn"].rsplit("/", 1)[1], "scenario", "the session's name")
        keys = took["Credentials"]
        who = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"]}
        session = client("kms", self.url, **who, aws_session_token=keys["SessionToken"])
        expect(session.describe_key(KeyId=self.key)["KeyMetadata"]["KeyId"], self.key, "as the role")
        refused("UnrecognizedClientException", client("kms", self.url, **who).describe_key, KeyId=self.key)
        refused("AccessDeniedException", session.disable_key, KeyId=self.key)
        for wrong, code, status in ((token[:-8] + "AAAAAAAA", "InvalidIdentityToken", 400),
                                    (os.environ["STRANGER"], "AccessDenied", 403)):
            try:
                sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="scenario", WebIdentityToken=wrong)
            except ClientError as error:
                expect(error.response["Error"]["Code"], code, "the error of STS")
                expect(error.response["ResponseMetadata"]["HTTPStatusCode"], status, "its status")
            else:
                raise Mismatch(f"STS gave a session where {code} was expected")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--other", required=True)
    given = parser.parse_args()
    run = Run(given.url, given.key, given.other)
    all_steps = [
        run.a_key_is_made_and_described,
        run.a_data_key_is_generated_and_decrypted,
        run.encrypt_says_nothing_of_the_material,
        run.context_and_blob_must_be_the_right_ones,
        run.a_rotation_makes_a_new_material_and_the_old_one_opens,
        run.rotations_are_listed_in_pages,
        run.re_encryption_moves_to_the_current_material,
        run.who_rewraps_sees_no_key_and_leads_it_nowhere,
        run.the_services_own_rotation_is_set_and_unset,
        run.a_disabled_key_does_nothing_until_it_is_enabled,
        run.a_key_to_be_deleted_does_nothing_and_comes_back_disabled,
        run.what_is_not_there_is_not_found,
        run.only_right_signatures_count,
        run.a_credentials_file_is_the_one_that_we_write,
        run.a_role_is_taken_with_a_token,
    ]
    steps.run(all_steps)


if __name__ == "__main__":
    main()
