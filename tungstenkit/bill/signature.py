"""Signatures of statements about an image: a DSSE envelope in a Sigstore bundle (v0.3), by a key of the user's.

The key is ECDSA's on P-256, in PEM. Nothing is asked but the key: no transparency log, no authority, no clock. What is
read here may be anybody's: it is bounded, and believed only where the key says so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from tungstenkit.bill.provenance import MEDIA_TYPE as IN_TOTO
from tungstenkit.bill.provenance import STATEMENT
from tungstenkit.outside import contents
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNED_IMAGE = "https://sigstore.dev/cosign/sign/v1"
"""The type of a statement that says no more than that its signer means this image."""
LARGEST = 1 << 24
"""In bytes, of a bundle: a statement names each input, of which the largest model has some thousands."""
PASSWORD = "TUNGSTEN_KEY_PASSWORD"  # noqa: S105 - the variable's name
_LARGEST_KEY = 1 << 16
_MAKE_ONE = (
    "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -out key.pem` makes one, and "
    "`openssl pkey -in key.pem -pubout -out key.pub` what others check it by"
)


class SignatureError(TungstenError):
    """A signature is not there, or not what it should be: other than a registry that does not answer."""


@dataclass(frozen=True)
class PublicKey:
    """What a signature is checked by."""

    key: ec.EllipticCurvePublicKey

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """A PEM file. Raises SignatureError."""
        try:
            key = serialization.load_pem_public_key(contents(path, _LARGEST_KEY))
        except (OSError, ValueError, UnsupportedAlgorithm) as problem:
            raise SignatureError(
                f"this is no public key: {_said(problem)}",
                where=str(path),
                hint="it begins with `-----BEGIN PUBLIC KEY-----`; `openssl pkey -in key.pem -pubout` writes it",
            ) from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _wrong_kind(path)
        return cls(key)

    @property
    def hint(self) -> str:
        """How bundles name it: by the hash of its DER form."""
        der = self.key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    def has_signed(self, data: bytes, signature: bytes) -> bool:
        """Whether a signature of these bytes is this key's."""
        try:
            self.key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """What signs."""

    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, path: Path, password: Callable[[], str]) -> PrivateKey:
        """A PEM file. password: is asked where the file is encrypted. Raises SignatureError."""
        try:
            data = contents(path, _LARGEST_KEY)
            key = serialization.load_pem_private_key(data, _password(data, password))
        except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as problem:
            raise SignatureError(
                f"this is no private key, or its password is another: {_said(problem)}",
                where=str(path),
                hint=_MAKE_ONE,
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _wrong_kind(path)
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """What others check it by."""
        return PublicKey(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """A signature; the same each time (RFC 6979), so that nothing new is sent for what was signed before."""
        try:
            return self.key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:
            return self.key.sign(data, ec.ECDSA(SHA256()))  # an OpenSSL of Linux distributions may be older


def _password(data: bytes, ask: Callable[[], str]) -> bytes | None:
    is_encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data or b"Proc-Type: 4,ENCRYPTED" in data
    return ask().encode() if is_encrypted else None


def _said(problem: Exception) -> str:
    return str(getattr(problem, "strerror", "") or problem).splitlines()[0][:200]


def _wrong_kind(path: Path) -> SignatureError:
    return SignatureError("this key is not of ECDSA on P-256", where=str(path), hint=_MAKE_ONE)


def bundle(statement: bytes, key: PrivateKey) -> bytes:
    """A statement in a bundle, signed."""
    value = {
        "mediaType": MEDIA_TYPE,
        # No log was told; readers want to be told so.
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": IN_TOTO,
            "signatures": [{"sig": base64.b64encode(key.sign(_signed_bytes(IN_TOTO, statement))).decode()}],
        },
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """What a signature of an envelope covers (DSSE v1, "Pre-Authentication Encoding")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class Statement:
    """What a key has said of an image."""

    kind: str
    """The predicate's type."""
    digests: frozenset[str]
    """Of what it speaks of: `sha256:…`."""
    predicate: dict[str, Any]


class UnsignedError(SignatureError):
    """A key has signed nothing of an image where that was looked for."""


class StrangerError(SignatureError):
    """A bundle is not this key's, and does not say that it is: others may attach theirs."""


def opened(data: bytes, key: PublicKey) -> Statement:
    """The statement in a bundle, if the key has signed it.

    Raises StrangerError for a bundle that names another key or an authority, SignatureError for one that is not whole.
    """
    if len(data) > LARGEST:
        raise SignatureError(f"a bundle of {len(data)} bytes is none", hint=_AGAIN)
    value = _object(data, "the bundle")
    if value.get("mediaType") != MEDIA_TYPE:
        raise SignatureError(
            f"the bundle is of another kind: {str(value.get('mediaType'))[:100]!a}", hint=_AGAIN
        )
    envelope, material = value.get("dsseEnvelope"), value.get("verificationMaterial")
    named = material.get("publicKey") if isinstance(material, dict) else None
    is_ours = isinstance(named, dict) and named.get("hint") == key.hint
    if not isinstance(envelope, dict):
        raise (SignatureError if is_ours else StrangerError)("the bundle has no DSSE envelope", hint=_AGAIN)
    payload, signatures = _bytes(envelope.get("payload"), "payload"), envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise SignatureError("the envelope has not one signature", hint=_AGAIN)
    signature, kind = _bytes(signatures[0].get("sig"), "signature"), envelope.get("payloadType")
    if not isinstance(kind, str) or not key.has_signed(_signed_bytes(kind, payload), signature):
        if is_ours:
            raise SignatureError(
                "what this key has signed was changed since, or the signature was", hint=_AGAIN
            )
        raise StrangerError(
            "it is signed by another key", hint="name the public key of whoever has signed it"
        )
    if kind != IN_TOTO:
        raise SignatureError(f"what is signed is no statement, but {kind[:100]!a}", hint=_AGAIN)
    return _statement(_object(payload, "the statement"))


_AGAIN = "sign it again: `tungsten push REF --sign KEY`"


def _statement(value: dict[str, Any]) -> Statement:
    subject, kind, predicate = value.get("subject"), value.get("predicateType"), value.get("predicate")
    if value.get("_type") != STATEMENT or not isinstance(subject, list) or not isinstance(kind, str):
        raise SignatureError("what is signed is no in-toto statement (v1)", hint=_AGAIN)
    digests = [one.get("digest") for one in subject if isinstance(one, dict)]
    sha256 = [one.get("sha256") for one in digests if isinstance(one, dict)]
    return Statement(
        kind,
        frozenset(f"sha256:{one}" for one in sha256 if isinstance(one, str)),
        predicate if isinstance(predicate, dict) else {},
    )


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise SignatureError(f"{what} is no JSON object", hint=_AGAIN) from None
    if not isinstance(value, dict):
        raise SignatureError(f"{what} is no JSON object", hint=_AGAIN)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values for one key, two readers may see each the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def _bytes(text: object, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raise SignatureError(f"the envelope's {what} is no base64", hint=_AGAIN) from None
