"""Java's file of trusted certificates, as `keytool` makes it: what a Java program checks servers by.

A JKS file, which all versions of Java read: a head, the certificates, and a digest that begins with the password
(java.security.KeyStore; the format is that of OpenJDK's sun.security.provider.JavaKeyStore).
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct

_PASSWORD = "changeit"  # noqa: S105  Java's own default, which everybody knows: it protects nothing
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_MAGIC, _VERSION, _TRUSTED = 0xFEEDFEED, 2, 2


def keystore(bundle: bytes) -> bytes:
    """The file that trusts all certificates of a PEM bundle. The time of each entry is 1970."""
    certificates = [base64.b64decode(found) for found in _PEM.findall(bundle)]
    data = struct.pack(">III", _MAGIC, _VERSION, len(certificates))
    for certificate in certificates:
        name = f"debian:{hashlib.sha256(certificate).hexdigest()}"
        data += struct.pack(">I", _TRUSTED) + _text(name) + struct.pack(">Q", 0) + _text("X.509")
        data += struct.pack(">I", len(certificate)) + certificate
    salted = _PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + data
    return data + hashlib.sha1(salted, usedforsecurity=False).digest()


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode("ascii")
