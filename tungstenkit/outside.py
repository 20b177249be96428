"""Words from outside: what a URL, a reference, a path or a text must be before anything is done by it.

A lock, an index, a source, a declaration may come from somebody who means harm. What they name is judged here, by its
parsed form and not by how it begins; a function says what is wrong, or None. Programs get such words behind what ends
their options, besides.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tungstenkit.sdk.errors import UNSEEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEB = ("https", "http")
"""Whence files are downloaded."""
GIT = ("https", "http", "ssh", "git", "file")
"""How git may reach a repository: none of these runs a program that a URL names."""

LARGEST_FILE = 1 << 40
"""In bytes; more is no file that an image is made of."""
LARGEST_SETTINGS = 1 << 24
"""In bytes, of a file beside the model that people write."""
LONGEST_TEXT = 1 << 20
"""In characters, of any text of a lock."""
LONGEST_NAME = 255
"""In bytes, of a name in a file system, and in characters of an image's."""
LONGEST_PATH = 4096
"""In bytes."""

_BLANKS = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")


def contents(path: Path, most: int) -> bytes:
    """What a file of somebody else's holds; OSError for more than `most` bytes, and what never ends, such as a pipe."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB")
    return data


def url_problem(url: str, schemes: tuple[str, ...] = WEB) -> str | None:
    """What is wrong with a URL of one of some schemes."""
    if _BLANKS.search(url):
        return "holds a blank or a control character"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in schemes:
        known = ", ".join(schemes[:-1])
        return f"is no {f'{known} or ' if known else ''}{schemes[-1]} URL"
    if parts.scheme == "file":
        return None if not host and parts.path.startswith("/") else "is no file URL of this machine"
    if not host:
        return "names no host"
    if host.startswith("-") or (parts.username or "").startswith("-"):
        return "names what a program could take for an option"
    return None


def redact(text: str) -> str:
    """A URL, or what a program says of some, without any user's name and password."""
    # Not by a parser: what is no URL must be shown without them too.
    return re.sub(r"(?<=//)[^/?#\n]*@", "", text)


def git_name_problem(name: str) -> str | None:
    """What is wrong with a branch, a tag or a commit (git-check-ref-format(1))."""
    if not name or name.startswith("-"):
        return "is no branch, tag or commit"
    if _BLANKS.search(name) or re.search(r"[~^:?*\[\\]|\.\.|@\{|//|/$|\.$|^\+", name):
        return "is no name that git gives"
    return None


_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# As clients tell a registry from the first part of a name: by a dot, a port, or `localhost`.
_PORT = r"(?::[0-9]+)"
_HOST = rf"(?:(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9A-Fa-f:]+\]){_PORT}?|[A-Za-z0-9-]+{_PORT})"
IMAGE_NAME = re.compile(rf"(?!-)(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*")
"""An image's name, with a registry's or without (OCI distribution specification)."""
IMAGE_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_IMAGE = re.compile(rf"(?P<name>{IMAGE_NAME.pattern})(?::{IMAGE_TAG.pattern})?(?:@sha256:[0-9a-f]{{1,64}})?")


def image_problem(reference: str) -> str | None:
    """What is wrong with the reference of an image: a name, with a tag, a digest, or both."""
    found = _IMAGE.fullmatch(reference)
    if found is None or len(found["name"]) > LONGEST_NAME:
        return "is no reference of an image, <name>[:<tag>][@sha256:<digest>]"
    return None


def path_problem(path: str) -> str | None:
    """What is wrong with a relative path, of `..` apart: whether that leads out is a question to who declares it."""
    if not path or path.startswith(("/", "~")):
        return "is not relative"
    if UNSEEN.search(path) or "\n" in path:
        return "holds a control character"
    if len(path.encode("utf-8", "surrogatepass")) > LONGEST_PATH:
        return "is longer than any path"
    return None


def plain(text: str) -> str:
    """Anybody's words as a terminal may have them: nothing that it obeys, nor what no encoding of its has."""
    seen = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], seen)


def text_problem(text: str) -> str | None:
    """What is wrong with a text that people read, and that terminals show."""
    if UNSEEN.search(text):
        return "holds a control character"
    if len(text) > LONGEST_TEXT:
        return f"is longer than {LONGEST_TEXT} characters"
    return None


def texts(value: object, where: str = "") -> Iterator[tuple[str, str]]:
    """Each text in what JSON holds, keys too, with where it stands: `platforms.x86_64-linux.wheels.0.version`."""
    waiting = [(where, value)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, str):
            yield place, one
        elif isinstance(one, dict):
            yield from ((place, key) for key in one)
            waiting += [(f"{place}.{key}".lstrip("."), inner) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting += [(f"{place}.{number}".lstrip("."), inner) for number, inner in enumerate(one)]
