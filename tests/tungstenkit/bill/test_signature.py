"""A key's statement is believed where the key says so, and nothing else is, whatever it looks like."""

import base64
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from sigstore import dsse
from sigstore_models.bundle.v1 import Bundle

from tests.machine import need
from tungstenkit.bill import signature
from tungstenkit.bill.provenance import PROVENANCE, statement
from tungstenkit.bill.signature import PrivateKey, PublicKey, SignatureError, StrangerError, bundle, opened

IMAGE = f"sha256:{'a' * 64}"
SAID = statement(IMAGE, "some", PROVENANCE, {"some": "thing"})


def key(seed=1):
    """The same each time: signatures, too, are."""
    return PrivateKey(ec.derive_private_key(seed, ec.SECP256R1()))


def changed(data, change):
    value = json.loads(data)
    change(value)
    return json.dumps(value).encode()


def envelope(**fields):
    return lambda value: value["dsseEnvelope"].update(fields)


def encoded(data):
    return base64.b64encode(data).decode()


def test_what_a_key_has_signed_is_read_back():
    found = opened(bundle(SAID, key()), key().public)
    assert (found.kind, found.digests, found.predicate) == (PROVENANCE, {IMAGE}, {"some": "thing"})


def test_sigstores_own_classes_read_it_and_its_signature_is_good():
    """As far as they go without an authority's certificate and a log: parsing, and the envelope's signature."""
    found = Bundle.from_json(bundle(SAID, key()))
    assert found.media_type == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert found.verification_material.public_key.hint == key().public.hint
    inside = dsse.Envelope(found.dsse_envelope)
    assert dsse._verify(key().public.key, inside) == SAID
    assert dsse.Statement(SAID)._inner.predicate_type == PROVENANCE
    with pytest.raises(dsse.VerificationError, match="invalid signature"):
        dsse._verify(key(2).public.key, inside)


def test_what_sigstores_classes_sign_is_read_here():
    made = dsse._sign(key().key, dsse.Statement(SAID))
    value = json.loads(bundle(SAID, key(2)))
    value["dsseEnvelope"] = json.loads(made.to_json())
    assert opened(json.dumps(value).encode(), key().public).digests == {IMAGE}


def test_a_signature_is_the_same_each_time():
    assert bundle(SAID, key()) == bundle(SAID, key())


def test_another_key_has_signed_nothing():
    with pytest.raises(StrangerError, match="signed by another key"):
        opened(bundle(SAID, key(2)), key().public)


@pytest.mark.parametrize("place", ["sig", "payload"])
def test_a_flipped_byte_is_told(place):
    """Wherever it is, but for the spelling of base64's end."""
    whole = json.loads(bundle(SAID, key()))
    fields = whole["dsseEnvelope"] if place == "payload" else whole["dsseEnvelope"]["signatures"][0]
    data = base64.b64decode(fields[place])
    for number in range(0, len(data), 7):
        fields[place] = encoded(data[:number] + bytes([data[number] ^ 1]) + data[number + 1 :])
        with pytest.raises(SignatureError, match="was changed since, or the signature was") as caught:
            opened(json.dumps(whole).encode(), key().public)
        assert not isinstance(caught.value, StrangerError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
            "another kind",
        ),
        (lambda value: value.update(mediaType=["a"]), "another kind"),
        (lambda value: value.pop("dsseEnvelope"), "no DSSE envelope"),
        (envelope(payloadType="text/plain"), "was changed since"),
        (envelope(payloadType=None), "was changed since"),
        (envelope(payload="not base64!"), "payload is no base64"),
        (envelope(payload=None), "was changed since"),
        (envelope(signatures=[]), "not one signature"),
        (envelope(signatures=[{"sig": "AA=="}, {"sig": "AA=="}]), "not one signature"),
        (envelope(signatures=["x"]), "not one signature"),
        (envelope(signatures=[{"sig": "%"}]), "signature is no base64"),
        (envelope(signatures=[{}]), "was changed since"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(change, message):
    with pytest.raises(SignatureError, match=message) as caught:
        opened(changed(bundle(SAID, key()), change), key().public)
    assert not isinstance(caught.value, StrangerError)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"mediaType":' * 50_000,
        b'{"mediaType": "a", "mediaType": "b"}',
        b"NaN",
    ],
)
def test_what_is_no_bundle_is_refused(data):
    with pytest.raises(SignatureError, match="no JSON object"):
        opened(data, key().public)


def test_one_without_end_is_not_even_parsed(monkeypatch):
    monkeypatch.setattr(signature.json, "loads", lambda *_, **__: pytest.fail("it is parsed"))
    with pytest.raises(SignatureError, match="bytes is none"):
        opened(b" " * (signature.LARGEST + 1), key().public)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"[" * 100_000, "the statement is no JSON object"),
        (b"{}", "no in-toto statement"),
        (SAID.replace(b"Statement/v1", b"Statement/v0.1"), "no in-toto statement"),
        (json.dumps({**json.loads(SAID), "subject": IMAGE}).encode(), "no in-toto statement"),
    ],
)
def test_even_what_the_key_has_signed_must_be_a_statement(said, message):
    with pytest.raises(SignatureError, match=message):
        opened(bundle(said, key()), key().public)


def test_subjects_of_odd_kinds_are_none():
    value = {
        **json.loads(SAID),
        "subject": [1, {"digest": 1}, {"digest": {"sha512": "x"}}, {"digest": {"sha256": 7}}],
    }
    assert opened(bundle(json.dumps(value).encode(), key()), key().public).digests == frozenset()


def pem(path, one, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(one.private_bytes(serialization.Encoding.PEM, form, encryption))
    return path


def never():
    pytest.fail("the password is asked for")


def test_a_key_is_read_with_and_without_a_password(tmp_path):
    assert PrivateKey.read(pem(tmp_path / "key.pem", key().key), never).public == key().public
    locked = pem(tmp_path / "locked.pem", key().key, b"right")
    assert PrivateKey.read(locked, lambda: "right").public == key().public
    with pytest.raises(SignatureError, match="or its password is another"):
        PrivateKey.read(locked, lambda: "wrong")


@pytest.mark.parametrize(
    "one", [ec.derive_private_key(1, ec.SECP384R1()), ed25519.Ed25519PrivateKey.from_private_bytes(b"1" * 32)]
)
def test_a_key_of_another_kind_is_refused(tmp_path, one):
    with pytest.raises(SignatureError, match="not of ECDSA on P-256"):
        PrivateKey.read(pem(tmp_path / "key.pem", one), never)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pub").write_bytes(one.public_key().public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(SignatureError, match="not of ECDSA on P-256"):
        PublicKey.read(tmp_path / "key.pub")


@pytest.mark.parametrize(
    "data", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key_is_told_with_its_file(tmp_path, data):
    (tmp_path / "key").write_bytes(data)
    for read in (PublicKey.read, lambda path: PrivateKey.read(path, never)):
        with pytest.raises(SignatureError, match="this is no") as caught:
            read(tmp_path / "key")
        assert caught.value.where == str(tmp_path / "key")
    with pytest.raises(SignatureError, match="No such file"):
        PublicKey.read(tmp_path / "nowhere")


def test_the_hints_commands_make_keys_that_work(tmp_path):
    need("openssl")
    make, show = signature._MAKE_ONE.split("`")[1::2]
    run = {"cwd": tmp_path, "check": True, "capture_output": True}
    subprocess.run(["sh", "-c", f"{make} -pass pass:secret"], **run)
    subprocess.run(["sh", "-c", f"{show} -passin pass:secret"], **run)
    private = PrivateKey.read(tmp_path / "key.pem", lambda: "secret")
    assert opened(bundle(SAID, private), PublicKey.read(tmp_path / "key.pub")).digests == {IMAGE}
