"""Which of the files that ship look like secrets: by their names, or since there is a token or a key in them.

Such a file ships only where `include_files` names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tungstenkit.cache import cache_folder, replacing
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.files import leftovers, named_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tungstenkit.spec.files import ModelFile


def secrets(directory: Path, files: Iterable[ModelFile], include: Sequence[str]) -> dict[str, str]:
    """The files that look like passwords, tokens or private keys, by path, and that `include_files` does not name.

    What tools have left is not searched for tokens: it is told of anyway, and packages have made-up ones in their docs.
    """
    files = list(files)
    named = named_by(include)
    left = tuple(one.path for one in leftovers(directory, files, ()))
    regular = [file.path for file in files if file.kind == "file" and not named.match_file(file.path)]
    tokens = _tokens(directory, [path for path in regular if not path.startswith(left)])
    return {path: what for path in regular if (what := tokens.get(path) or _secret(directory / path))}


_SECRET_NAMES = {
    ".env": "environment variables",
    ".envrc": "environment variables",
    ".netrc": "passwords of hosts",
    "_netrc": "passwords of hosts",
    ".pypirc": "passwords of package indexes",
    ".git-credentials": "passwords of git hosts",
    ".dockercfg": "passwords of registries",
    ".pgpass": "passwords of databases",
    "id_rsa": "a private key",
    "id_dsa": "a private key",
    "id_ecdsa": "a private key",
    "id_ed25519": "a private key",
    "credentials": "credentials",
    "credentials.json": "credentials",
    "kubeconfig": "credentials of a cluster",
}

# What gives away a file whose name says little: a pattern of names, and one of contents.
_SECRET_CONTENTS = (
    (
        re.compile(r".*\.(pem|key|ppk|txt|asc|p8)"),
        re.compile(rb"- ?BEGIN [A-Z0-9 ]*PRIVATE KEY|\APuTTY-User-Key-File"),
        "a private key",
    ),
    (re.compile(r".*\.json"), re.compile(rb'"private_key"\s*:'), "a service account's private key"),
    (re.compile(r"\.?(npmrc|yarnrc.*)"), re.compile(rb"_auth|_password", re.IGNORECASE), "a token"),
    (re.compile(r"pip\.(conf|ini)"), re.compile(rb"://[^/\s]*@"), "a password of a package index"),
    (re.compile(r"config\.json"), re.compile(rb'"auths"\s*:'), "passwords of registries"),
    # Nothing else: a file of words, such as a tokenizer's, may be called so, too.
    (re.compile(r"\.?(token|.*[-_.]token)(\.txt)?"), re.compile(rb"\A\s*\S{16,}\s*\Z"), "a token"),
)


# Keys and tokens are short, and stand at the beginning.
_SECRET_SEARCHED = 64 * 1024  # bytes

_TEMPLATES = ("example", "sample", "template")
"""How the names of such files end that only show what belongs there."""


def _secret(path: Path) -> str | None:
    """What secret a file seems to hold, by its name or what such a one holds."""
    name = path.name.lower()
    if name in _SECRET_NAMES:
        return _SECRET_NAMES[name]
    if (name.startswith(".env.") and not name.endswith(_TEMPLATES)) or (
        name.endswith(".env") and not name.removesuffix(".env").endswith(_TEMPLATES)
    ):
        return _SECRET_NAMES[".env"]
    for names, contents, what in _SECRET_CONTENTS:
        if names.fullmatch(name):
            with path.open("rb") as file:
                if contents.search(file.read(_SECRET_SEARCHED)):
                    return what
    return None


class _Token(NamedTuple):
    """A kind of token that says by its first letters what it is."""

    begins: tuple[bytes, ...]
    """Some of these are in a text that holds one: whoever looks for them first need not look for the pattern."""
    pattern: re.Pattern[bytes]
    """`begin` is what says the kind, and may be shown; `rest` was drawn by lot."""
    what: str


def _pattern(begin: str, rest: str) -> re.Pattern[bytes]:
    # A part of a longer word, such as of base64, is none.
    return re.compile(rf"(?<![A-Za-z0-9+/_-])(?P<begin>{begin})(?P<rest>{rest})(?![A-Za-z0-9])".encode())


_TOKENS = (
    _Token((b"hf_",), _pattern("hf_", "[A-Za-z0-9]{34}"), "a token of Hugging Face"),
    _Token(
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
        _pattern("gh[pousr]_", "[A-Za-z0-9]{36,255}"),
        "a token of GitHub",
    ),
    _Token(
        (b"github_pat_",),
        _pattern("github_pat_", "[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
        "a token of GitHub",
    ),
    _Token(
        (b"sk-",),
        _pattern("sk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]+-)", "[A-Za-z0-9_-]{40,}"),
        "a key of an API",
    ),
    _Token((b"sk-",), _pattern("sk-", "[A-Za-z0-9]{48}"), "a key of an API"),
    _Token((b"AKIA", b"ASIA"), _pattern("A[KS]IA", "[A-Z2-7]{16}"), "an access key of AWS"),
    _Token((b"xox",), _pattern("xox[abeoprs]-", "[A-Za-z0-9-]{24,}"), "a token of Slack"),
    _Token((b"pypi-AgEI",), _pattern("pypi-AgEI", "[A-Za-z0-9_-]{50,}"), "a token of a package index"),
    _Token(
        (b"PRIVATE KEY-----",),
        # What follows may have its lines in quotes, or `\\n` between them, and lines of its own before the key.
        re.compile(
            rb"(?P<begin>-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----)[\s\S]{0,200}?(?P<rest>[A-Za-z0-9+/]{40})"
        ),
        "a private key",
    ),
)
_FEWEST_LETTERS = 10
"""That differ, of those drawn by lot; half of them where there are less than twice as many."""
_MADE_UP = re.compile(rb"example|placeholder|your|dummy|fake", re.IGNORECASE)

_TABLE = 1
"""Counts up where other files than before are found."""
_MOST_TEXT = 1_000_000  # bytes: what is larger holds data
_SETTLED = 2_000_000_000
"""Nanoseconds: a change so soon after another may leave all times as they are, on file systems with coarse clocks."""
_CHANGED = 1  # where a note's facts have the time of a file's last change


def _tokens(directory: Path, paths: Iterable[str]) -> dict[str, str]:
    """Which files hold a token, and where. One that held none is searched again only where it was touched."""
    digest = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()
    note = cache_folder() / "searched" / digest
    known = _read_note(note)
    found, clean = {}, {}
    for path in paths:
        try:
            status = (directory / path).stat()
            facts = [status.st_size, status.st_ctime_ns, status.st_mtime_ns, status.st_ino, status.st_dev]
            is_searched = known.get(path) != facts and status.st_size < _MOST_TEXT
            token = _token((directory / path).read_bytes()) if is_searched else None
        except OSError:
            continue  # whoever packs it says so
        if token is None:
            clean[path] = facts
        else:
            found[path] = token
    if clean != known:
        with suppress(FetchError), replacing(note) as place:
            place.write_text(json.dumps({"table": _TABLE, "clean": clean}), encoding="utf-8")
    return found


def _read_note(note: Path) -> dict[str, list[int]]:
    """What is known of a folder's files from before: size, times and place of each that held no token.

    What had been changed just before the note was written may have been written again without a trace in its times.
    """
    try:
        settled = note.stat().st_mtime_ns - _SETTLED
        document = json.loads(note.read_text(encoding="utf-8"))
        clean = document["clean"].items() if document["table"] == _TABLE else ()
        return {path: facts for path, facts in clean if facts[_CHANGED] < settled}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {}


def _token(data: bytes) -> str | None:
    """The first token in a text, with its line; None in what is no text, too."""
    if b"\0" in data:
        return None
    for kind in _TOKENS:
        if any(begin in data for begin in kind.begins):
            for match in kind.pattern.finditer(data):
                if _is_drawn(match["rest"]):
                    line = data.count(b"\n", 0, match.start()) + 1
                    return f"{kind.what} in line {line}: {match['begin'].decode()}***"
    return None


def _is_drawn(text: bytes) -> bool:
    """Whether letters were drawn by lot, and are not put there to stand for such."""
    in_order = sum(after - before in (0, 1) for before, after in pairwise(text))
    return (
        len(set(text)) >= min(_FEWEST_LETTERS, len(text) // 2)
        and in_order < len(text) // 2
        and not _MADE_UP.search(text)
    )
