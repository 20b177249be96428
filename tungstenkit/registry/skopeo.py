"""Registries of container images, by skopeo: manifests and blobs as the registry has them, by digest.

How a user proves who they are is skopeo's own business (`skopeo login`, containers-auth.json(5)), and so are
mirrors (containers-registries.conf(5)): nothing of it passes through here. As with docker, a
registry on this machine's loopback may speak plain HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit import certificates
from tungstenkit.digest import sha256_of
from tungstenkit.lacks import installing
from tungstenkit.outside import image_problem
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

_LOOK_EACH = 0.2  # seconds between two looks at how much has arrived
_AROUND = 1 << 24  # bytes of a copy besides its blobs
_LAST_WORDS = 2000  # letters of skopeo's log


def with_digest(reference: str, digest: str) -> str:
    """The reference of one manifest: a name without its tag, and a digest."""
    folder, slash, last = reference.partition("@")[0].rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}"


def without_tag(reference: str) -> str:
    """The reference as skopeo takes it: where it has a digest, the tag beside it says nothing."""
    digest = reference.partition("@")[2]
    return with_digest(reference, digest) if digest else reference


def manifest(reference: str) -> tuple[str, dict[str, Any]]:
    """The digest of what a reference names now, and its content: a manifest or an index (OCI image specification).

    Raises FetchError where it can't be read.
    """
    data = _skopeo(["inspect", "--raw", *tls("", reference)], reference)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if reference.partition("@")[2] not in ("", digest):
        raise FetchError(
            f"the registry answers with another manifest, {digest}",
            where=reference,
            hint="try again; if it stays so, the registry, or something on the way to it, is wrong",
        )
    return digest, _json(data, reference)


def configuration(reference: str) -> dict[str, Any]:
    """The configuration of the image that a reference names. Raises FetchError as `manifest`."""
    data = _skopeo(["inspect", "--config", "--raw", *tls("", reference)], reference)
    return _json(data, reference)


def pull(reference: str, blobs: Mapping[str, Path], folder: Path, advance: Callable[[int], None]) -> None:
    """Download blobs of the image that a reference names.

    blobs: by sha256 in hexadecimal, the paths that they get. folder: where they wait until each is whole, on the same
    disk. advance: is told of every byte that has arrived.

    Raises FetchError where one can't be had or is not what its digest says; none is left half-written.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="image-") as name:
        _copy(reference, Path(name), advance)
        for sha256, path in blobs.items():
            found = Path(name) / sha256
            if not found.exists() or sha256_of(found) != sha256:
                raise FetchError(
                    "the registry has other bytes than the manifest says",
                    where=f"{reference} sha256:{sha256}",
                    hint="try again; if it stays so, the registry is damaged",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            found.rename(path)


def copy_layout(reference: str, folder: Path, advance: Callable[[int], None]) -> None:
    """Copy the image that a reference names into a new image layout, under its digest; the rest as `pull`."""
    folder.mkdir()
    _copy(reference, folder, advance, kind="oci")


def _copy(reference: str, folder: Path, advance: Callable[[int], None], kind: str = "dir") -> None:
    command = ["copy", "--quiet", "--preserve-digests", *tls("src-", reference)]
    most = _room(manifest(reference)[1])
    with tempfile.TemporaryFile() as log:
        process = _start([*command, "--", _remote(reference), f"{kind}:{folder}"], log)
        before = 0
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_EACH)
                size = sum(_size(path) for path in folder.rglob("*"))
                advance(size - before)
                before = size
                # Skopeo looks at a blob when it has ended, and one may not.
                if most is not None and size > most:
                    raise FetchError(
                        "the registry gives more than the manifest says",
                        where=reference,
                        hint="try again; if it stays so, the registry is damaged",
                    )
                if process.returncode is not None:
                    break
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            log.seek(0)
            raise _problem(log.read(), reference)


def _room(document: dict[str, Any]) -> int | None:
    """What a copy of an image may take, in bytes; None for what is no single image."""
    if "manifests" in document:
        return None
    listed = document.get("layers")
    blobs = [document.get("config"), *(listed if isinstance(listed, list) else ())]
    sizes = [one.get("size") for one in blobs if isinstance(one, dict)]
    return _AROUND + sum(size for size in sizes if isinstance(size, int) and size > 0)


def _remote(reference: str) -> str:
    """As skopeo names what is in a registry; FetchError for a reference that is none."""
    if problem := image_problem(reference):
        raise FetchError(f"{reference!a} {problem}", where="base_image", hint="see base_image=…")
    return f"docker://{reference}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has just got its name
        return 0


def tls(prefix: str, reference: str) -> list[str]:
    """What skopeo is told of a registry on this machine: plain HTTP is enough there. prefix: of its option."""
    return [f"--{prefix}tls-verify=false"] if is_here(reference) else []


def is_here(reference: str) -> bool:
    """Whether a reference's registry is on this machine's loopback."""
    host, slash, _ = reference.partition("/")
    if not slash:
        return False
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _skopeo(arguments: list[str], reference: str) -> bytes:
    with tempfile.TemporaryFile() as log:
        process = _start([*arguments, "--", _remote(reference)], log, subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode != 0:
            log.seek(0)
            raise _problem(log.read(), reference)
    return bytes(output)


def _start(arguments: list[str], log: IO[bytes], output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["skopeo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            env=certificates.environment(),
        )
    except FileNotFoundError:
        raise FetchError(
            "base images are read by skopeo, and there is no `skopeo` on PATH",
            where="base_image",
            hint=str(installing("skopeo")),
        ) from None


def passwords_hint(said: str) -> str | None:
    """What helps where skopeo may not read a user's passwords: their default place (containers-auth.json(5)) is
    another's, as for who has no session on a machine on which root has called podman.
    """
    if not re.search(r"(?:/auth\.json|/run/containers/).*permission denied", said):
        return None
    return "name a file of this user's: `export REGISTRY_AUTH_FILE=$HOME/.config/containers/auth.json`"


def login_hint(reference: str, skopeo_args: Sequence[str] = ()) -> str:
    """The command that has skopeo keep a user and a password for a reference's registry.

    skopeo_args: what it was told besides.
    """
    host, slash, _ = reference.partition("/")
    # As skopeo takes it: else the name is one of its default registry's.
    named = slash and ("." in host or ":" in host or host == "localhost")
    without_tls = " --skopeo-arg=--tls-verify=false" if "--dest-tls-verify=false" in skopeo_args else ""
    return f"`tungsten login {host if named else 'REGISTRY'}{without_tls}` gives it a user and a password"


_LOGGED = re.compile(r'(?m)^time="[^"\n]*" level=\w+ msg=("(?:[^"\\\n]|\\.)*"|\S+)$')


def in_words(log: str) -> str:
    """What skopeo says, without the form of its log: the hour, and quotes within quotes."""
    return _LOGGED.sub(lambda line: _unquoted(line[1]), log.strip()).strip()


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text, strict=False)) if text.startswith('"') else text
    except ValueError:  # Go has escapes that JSON has not
        return text[1:-1]


def _problem(log: bytes, reference: str) -> FetchError:
    text = in_words(log.decode("utf-8", "replace"))[-_LAST_WORDS:]
    if handshake := certificates.problem_in(text):
        return FetchError(
            f"the image can't be read: {handshake}", where=reference, hint=certificates.hint(handshake)
        )
    if hint_of_passwords := passwords_hint(text):
        hint = hint_of_passwords
    elif "no space left" in text:
        hint = "make room on the disk, and run it again"
    elif "unauthorized" in text or "denied" in text or "authentication required" in text:
        hint = f"{login_hint(reference)}; or the name is not right"
    elif "manifest unknown" in text or "not found" in text:
        hint = "look at the name and the tag; a digest that was removed from the registry is gone"
    else:
        hint = "check the network and the name; `skopeo inspect docker://NAME` asks the same"
    return FetchError(f"the image can't be read: {text}", where=reference, hint=hint)


def _json(data: bytes, reference: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FetchError(
            "the registry's answer is no manifest",
            where=reference,
            hint="another server may answer in its place, a proxy or a page to sign in at: check the network",
        )
    return value
