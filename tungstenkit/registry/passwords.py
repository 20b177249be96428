"""Who a user is at a registry, as skopeo and podman read it: containers-auth.json(5).

What `tungsten login`, `podman login` or `docker login` has kept is found; nothing is kept here. So is which registries
may speak plain HTTP (containers-registries.conf(5), `insecure`).
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tungstenkit.outside import LARGEST_SETTINGS, contents
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HELPERS_PATIENCE = 60  # seconds: one may ask for a fingerprint
_HUB = "docker.io"
_HUBS_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Password:
    """A user's name and password, or a token in their place."""

    user: str = field(repr=False)
    secret: str = field(repr=False)
    is_token: bool = False
    """Whether the secret is a refresh token, which is worth an access token (OAuth 2.0)."""


def password_for(
    registry: str, repository: str, environ: Mapping[str, str] = os.environ, file: str | None = None
) -> Password | None:
    """What this machine has for a repository, the nearest first; None where it has nothing.

    file: to be read in place of all others.

    Raises FetchError for a file that can't be read, or a credential helper that fails.
    """
    for path in [Path(file)] if file else _files(environ):
        if (found := _in(path, registry, repository)) is not None:
            return found
    return None


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    if named := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    home = Path(environ.get("HOME") or Path.home())
    run = environ.get("XDG_RUNTIME_DIR")
    yield Path(run, "containers/auth.json") if run else Path(f"/run/containers/{os.getuid()}/auth.json")
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers/auth.json")
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker", "config.json")


def _in(path: Path, registry: str, repository: str) -> Password | None:
    try:
        document: Any = json.loads(contents(path, LARGEST_SETTINGS))
        auths, helpers = document.get("auths") or {}, document.get("credHelpers") or {}
        if helper := helpers.get(registry) or document.get("credsStore"):
            return _of_helper(str(helper), registry)
        for key in _keys(registry, repository):
            if (entry := auths.get(key)) is not None and (found := _of_entry(entry)) is not None:
                return found
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        # The default place may be another user's: the next is asked.
        return None
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as problem:
        raise FetchError(
            f"the passwords for registries can't be read: {problem}",
            where=str(path),
            hint=f"`tungsten login {registry}` writes it; a damaged file must go first",
        ) from None
    return None


def _keys(registry: str, repository: str) -> Iterator[str]:
    """What an entry for a repository may be called, the nearest first."""
    name = f"{registry}/{repository}"
    while "/" in name:
        yield name
        name = name.rpartition("/")[0]
    yield registry
    # As docker has written it.
    yield from (f"https://{registry}/v1/", f"https://{registry}", f"https://{registry}/v2/")
    if registry == _HUB:
        yield from (_HUBS_KEY, "index.docker.io")


def _of_entry(entry: Mapping[str, Any]) -> Password | None:
    if token := entry.get("identitytoken"):
        return Password("", str(token), is_token=True)
    if not (packed := entry.get("auth")):
        return None
    user, colon, secret = base64.b64decode(packed, validate=True).decode().partition(":")
    if not colon:
        raise ValueError("an `auth` is no user and password")
    return Password(user, secret.rstrip("\0"))


def _of_helper(helper: str, registry: str) -> Password | None:
    """What a credential helper has for a registry."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise ValueError(f"{helper!a} is no credential helper")
    key = _HUBS_KEY if registry == _HUB else registry
    command = [f"docker-credential-{helper}", "get"]
    try:
        run = subprocess.run(
            command, input=key, capture_output=True, text=True, timeout=_HELPERS_PATIENCE, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        raise FetchError(
            f"{command[0]} is to know the password, and does not answer",
            where=registry,
            hint="is it on PATH? `credHelpers` or `credsStore` in auth.json or docker's config.json names it",
        ) from None
    if run.returncode != 0:
        # So a helper says that it has none, in words of its own.
        return None
    said = json.loads(run.stdout)
    if not isinstance(said, dict) or not {"Username", "Secret"} <= said.keys():
        raise ValueError(f"{command[0]} says neither who nor by what")
    user, secret = str(said["Username"]), str(said["Secret"])
    return Password("" if user == "<token>" else user, secret, is_token=user == "<token>")


def may_be_plain(registry: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this machine's settings let a registry speak plain HTTP."""
    home = Path(environ.get("HOME") or Path.home())
    users = Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "containers/registries.conf")
    main = Path(environ.get("CONTAINERS_REGISTRIES_CONF") or users)
    files = [main if main.is_file() else Path("/etc/containers/registries.conf")]
    for folder in (Path("/etc/containers/registries.conf.d"), users.with_name("registries.conf.d")):
        files += sorted(folder.glob("*.conf")) if folder.is_dir() else []
    found = False
    for path in files:
        try:
            tables = tomllib.loads(contents(path, LARGEST_SETTINGS).decode()).get("registry", [])
            for one in tables:
                if (one.get("prefix") or one.get("location")) == registry:
                    found = one.get("insecure") is True
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # skopeo says what is wrong with it
    return found
