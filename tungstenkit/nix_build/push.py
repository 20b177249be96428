"""An image into a registry, by skopeo; and who may do so."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tungstenkit import certificates
from tungstenkit.lacks import installing
from tungstenkit.outside import IMAGE_NAME, IMAGE_TAG, LONGEST_NAME
from tungstenkit.registry.skopeo import in_words, login_hint, passwords_hint, tls
from tungstenkit.sdk.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.nix_build.image import Image
    from tungstenkit.nix_build.index import Index


def check_target(reference: str) -> None:
    """Raises BuildError for what is no reference to push to: a name, with a registry's or without, and a tag."""
    name, _, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "")
    if (
        not IMAGE_NAME.fullmatch(name)
        or len(name) > LONGEST_NAME
        or not (IMAGE_TAG.fullmatch(tag) or name == reference)
    ):
        raise BuildError(
            f"{reference!r} is no reference that an image can be pushed to",
            where="REF",
            hint="such as registry.example:5000/team/blur:1: lower-case letters and digits, with single `.`, `_` or "
            "`-` between them, and `/` between parts; after `:` a tag of letters, digits, `_`, `.` and `-`",
        )


def check_skopeo() -> None:
    """Raises BuildError where there is no skopeo."""
    if shutil.which("skopeo") is None:
        raise BuildError(
            "there is no skopeo on PATH, which pushes images and keeps passwords",
            hint=f"{installing('skopeo')}; what `podman login` keeps, it reads",
        )


_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")


def login(
    registry: str, user: str | None, *, password_stdin: bool = False, skopeo_args: Sequence[str] = ()
) -> None:
    """Have skopeo keep a user and a password for a registry. Raises BuildError.

    It asks for what it is not given, and reads the password itself: nothing of it passes through here.
    """
    named = [f"--username={user}"] if user is not None else []
    read = ["--password-stdin"] if password_stdin else []
    if password_stdin and user is None:
        raise BuildError("whose password that is must be said", hint="-u USER")
    if any(one.startswith(("-p", "--password")) for one in skopeo_args):
        raise BuildError(
            "a password on a line is seen by everyone on this machine",
            where="--skopeo-arg",
            hint="without it skopeo asks, and --password-stdin reads it",
        )
    _account("login", registry, [*named, *read, *tls("", f"{registry}/"), *skopeo_args])


def logout(registry: str) -> None:
    """Have skopeo forget the user and the password of a registry. Raises BuildError."""
    _account("logout", registry, [])


def _account(what: str, registry: str, options: Sequence[str]) -> None:
    if not _REGISTRY.fullmatch(registry):
        raise BuildError(
            f"{registry!r} is no registry", where="REGISTRY", hint="a host, such as registry.example:5000"
        )
    check_skopeo()
    command = ["skopeo", what, *options, "--", registry]
    # Its questions are not there, but on the terminal.
    run = subprocess.run(
        command, env=certificates.environment(), stderr=subprocess.PIPE, text=True, check=False
    )
    if run.returncode != 0:
        handshake = certificates.problem_in(run.stderr)
        raise BuildError(
            f"skopeo did not {'log in to' if what == 'login' else 'log out of'} {registry}: "
            f"{handshake or in_words(run.stderr)}",
            hint=certificates.hint(handshake)
            if handshake
            else _hint(run.stderr, registry, "--tls-verify=false"),
        )


def push_image(image: Image | Index, reference: str, skopeo_args: Sequence[str]) -> None:
    """Push an image, or an index with all of its images, to a registry as it is, so that its digest stays.

    Raises BuildError.
    """
    command = [
        "skopeo",
        "copy",
        "--all",
        "--preserve-digests",
        *tls("dest-", reference),
        *skopeo_args,
        "--",
        f"oci:{image.layout}",
        f"docker://{reference}",
    ]
    run = subprocess.run(command, env=certificates.environment(), capture_output=True, text=True, check=False)
    if run.returncode != 0:
        handshake = certificates.problem_in(run.stderr)
        raise BuildError(
            f"the image could not be pushed: {handshake or in_words(run.stderr)}",
            # Not the command: what skopeo is told besides may be a password.
            where=f"docker://{reference}",
            hint=certificates.hint(handshake)
            if handshake
            else _hint(run.stderr, reference, "--dest-tls-verify=false")
            or login_hint(reference, skopeo_args),
        )


_NO_ANSWER = re.compile(
    r"connection refused|no such host|no route to host|i/o timeout|network is unreachable"
)
_ASKED = re.compile(r"https?://([^/\"\\]+)/v2/")
_NOBODY_ASKED = re.compile(r"reading (?:username|password): (?:EOF|inappropriate ioctl)")
_NO_TLS = re.compile(r"server gave HTTP response to HTTPS client")


def _hint(said: str, reference: str, without_tls: str) -> str | None:
    """What helps, by what skopeo says; None where that is not known.

    without_tls: its option for a registry without TLS.
    """
    if hint := passwords_hint(said):
        return hint
    if _NO_ANSWER.search(said):
        asked = _ASKED.search(said)
        host = asked[1] if asked else reference.partition("/")[0]
        return f"nothing answers at {host}: is a registry running there, and is that its name?"
    if _NOBODY_ASKED.search(said):
        return (
            f"there is no terminal to ask at: `tungsten login {reference} -u USER --password-stdin` reads it"
        )
    if "invalid username/password" in said:
        return f"the registry has no such user, or another password: `tungsten login {reference}` asks again"
    return f"--skopeo-arg={without_tls} is for a registry without TLS" if _NO_TLS.search(said) else None
