"""Which certificates servers are checked by, in every part that speaks TLS; and what to say where that fails.

pip, curl, git and the system each have a place of their own for the certificate of a network's own authority, and a
user has told one of them. So what any of them trusts, all that we start trusts: one file with all certificates, in the
user's cache. What is fetched is checked by its hash besides.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import lacks
from tungstenkit.cache import cache_folder, replacing
from tungstenkit.configured import pip_setting
from tungstenkit.data import FACTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

# `pip_setting` reads pip's.
VARIABLES = (*(name for name in FACTS["certificate-variables"] if name != "PIP_CERT"), "SSL_CERT_DIR")
"""They name a file of certificates (PEM), or a folder of such files."""

SYSTEM = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
"""Where systems have theirs: Debian, Fedora, SUSE, Alpine, and those after them."""

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)

# As rustls (uv), curl with OpenSSL or GnuTLS (git), and Go (skopeo) word it.
_FAILED = re.compile(
    r"(?im)^.*?((?:invalid peer certificate|certificate verif\w+|server certificate|SSL certificate problem"
    r"|SSL routines|SSL_connect|received fatal alert|x509: |tls: |TLS handshake|handshake failure|gnutls_handshake).*)$"
)

_NO_ISSUER = re.compile(
    r"(?i)issuer|unknown ?authority|self[- ]signed|verification failed\. |signer not found|unknown ca"
)
_TIME = re.compile(r"(?i)expired|not yet valid|notvalidyet|clock")


def named(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The paths that this machine's settings name, with who names them: files, or folders."""
    found = [
        (name, path)
        for name in VARIABLES
        for path in (
            environ.get(name, "").split(os.pathsep) if name == "SSL_CERT_DIR" else [environ.get(name)]
        )
        if path
    ]
    return [*found, ("pip's `cert`", path)] if (path := pip_setting("cert", environ)) else found


def bundle(*more: str) -> str:
    """The path of a file with every certificate that this machine trusts. more: paths of others.

    What can't be read is left out: `hint` says so, where it may matter. Raises FetchError where the file can't be
    written.
    """
    others = (path for _, path in named(os.environ))
    return _written(tuple(dict.fromkeys((*others, *more))), tuple(map(str, SYSTEM)))


@cache
def _written(paths: tuple[str, ...], system: tuple[str, ...]) -> str:
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    others = [one for path in paths for one in _certificates(path)]
    own = [
        one for path in (*system, DEFAULT_CA_BUNDLE_PATH) for one in _CERTIFICATE.findall(_text(Path(path)))
    ]
    content = "".join(f"{one}\n" for one in dict.fromkeys((*others, *own)))
    path = cache_folder() / "certificates" / f"{hashlib.sha256(content.encode()).hexdigest()}.pem"
    if not path.is_file() or path.read_text(encoding="ascii") != content:
        with replacing(path) as new:
            new.write_text(content, encoding="ascii")
    return str(path)


def _certificates(path: str) -> list[str]:
    """The certificates of a file, or of the files of a folder; a damaged one would spoil the others."""
    try:
        place = Path(path).expanduser()
        files = sorted(place.iterdir()) if place.is_dir() else [place]
    except (OSError, RuntimeError):  # it may not be looked into; `~` is nobody's
        return []
    return [one for file in files for one in _CERTIFICATE.findall(_text(file)) if _is_whole(one)]


def _is_whole(certificate: str) -> bool:
    """Whether it is a DER sequence, and ends where that says (X.690, 8.1.3)."""
    try:
        data = base64.b64decode("".join(certificate.splitlines()[1:-1]), validate=True)
    except ValueError:
        return False
    if data[:1] != b"\x30" or data[1:2] <= b"\x80":
        return False
    digits = data[1] & 127
    return len(data) == 2 + digits + int.from_bytes(data[2 : 2 + digits], "big")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def environment(*more: str) -> dict[str, str]:
    """This process's variables, for a program that speaks TLS: git, uv, skopeo. more: as `bundle` takes it."""
    path = bundle(*more)
    return {**os.environ, "SSL_CERT_FILE": path, "GIT_SSL_CAINFO": path}


def session(connections: int = 10) -> requests.Session:
    """A session of `requests` that checks servers by `bundle`; proxies and netrc are the machine's.

    connections: so many are kept to one server.
    """
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        # Only here: nothing is asked of anybody before a server is to be checked, and redirects lead here, too.
        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401 (requests' own)
            return super().send(request, *args, **{**options, "verify": bundle()})

    made = requests.Session()
    made.mount("http://", HTTPAdapter(pool_maxsize=connections))
    made.mount("https://", Adapter(pool_maxsize=connections))
    return made


def problem_of(problem: BaseException) -> str | None:
    """What is wrong, where an exception is of a failed TLS handshake."""
    import ssl

    waiting: list[object] = [problem]
    known: list[object] = []
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or one in known:
            continue
        known.append(one)
        if isinstance(one, ssl.SSLCertVerificationError):
            return _handshake(one.verify_message.rstrip("."))
        # A connection that is cut, at whatever time, is one of these, too.
        if isinstance(one, ssl.SSLError) and not isinstance(one, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return _handshake((one.reason or str(one)).lower().replace("_", " "))
        waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return None


def problem_in(said: str) -> str | None:
    """What is wrong, where a program that we have started says that a TLS handshake failed."""
    found = _FAILED.search(said)
    return _handshake(found[1].strip().rstrip(".")) if found else None


def _handshake(reason: str) -> str:
    return f"the TLS handshake failed: {reason}"


def is_of_time(problem: str) -> bool:
    """Whether what `problem_of` or `problem_in` says is wrong with a certificate passes, or came, with time."""
    return _TIME.search(problem) is not None


def is_of_unknown_issuer(problem: str) -> bool:
    """Whether it is that nobody who is trusted has signed it."""
    return not is_of_time(problem) and _NO_ISSUER.search(problem) is not None


def has_some(path: str) -> bool:
    """Whether a file, or a folder's files, hold a certificate that can be read."""
    return bool(_certificates(path))


def hint(problem: str) -> str:
    """What helps, for what `problem_of` or `problem_in` says."""
    if is_of_time(problem):
        return "see whether this machine's clock is right; else who keeps that server has to renew its certificate"
    if not is_of_unknown_issuer(problem):
        return "another server answers in its place, a proxy perhaps: see the URL and the proxy settings"
    lost = [
        f"{who} names {path}, which has no certificate that can be read"
        for who, path in named(os.environ)
        if not has_some(path)
    ]
    what_to_do = (
        "where the network has an authority of its own, name the file of its certificate (PEM): "
        f"{lacks.hint(lacks.trusting(), ', or ')}"
    )
    return "\n".join([*lost, what_to_do])
