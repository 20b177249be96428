"""The licences of packages, as their own metadata states them, in SPDX's terms.

A wheel says it in its METADATA (PEP 639, and the fields before it), a Debian package in its copyright file where that
is machine-readable (DEP-5), a repository of a hub in the head of its README. Nothing is concluded from texts. What
SPDX's list has no name for is a `LicenseRef` with the words that the package has for it.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import zipfile
from email.parser import HeaderParser
from typing import TYPE_CHECKING, NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from tungstenkit.cache import keep, kept
from tungstenkit.debian.control import stanzas
from tungstenkit.debian.deb import open_files
from tungstenkit.document import Document
from tungstenkit.fetch.archives import DAMAGED
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_FORMAT = "1"  # of what is kept: raise it whenever something else would be found
_LARGEST = 4 << 20
"""In bytes, of a text that is read for this."""
_LONGEST_NAME = 60
_FOLDER = "usr/share/doc"


class Text(Document):
    """A licence that SPDX's list does not have, as a package says it."""

    id: str
    """`LicenseRef-…`: the same name and text have the same."""
    name: str
    text: str


class Licence(Document):
    """What a package says of its licence."""

    expression: str
    """SPDX's (SPDX 2.3, annex D)."""
    texts: tuple[Text, ...] = ()
    """What the references in it mean."""


class _Said(Document):
    """What is kept of a file that was read."""

    licence: Licence | None
    elsewhere: str = ""
    """Of a Debian package: the other one whose copyright file is its own, too (Debian policy 12.5)."""


def of_wheel(path: Path, sha256: str, cache: Path) -> Licence | None:
    """A wheel's licence, or None where it says none. Raises FetchError where it is no wheel."""
    return _kept(path, sha256, cache, _read_wheel).licence


def of_debs(debs: Iterable[Deb], cache: Path) -> dict[str, Licence]:
    """The licences of Debian packages by their names, where their copyright files can be read by a program."""
    from concurrent.futures import ThreadPoolExecutor  # few commands come here

    found = list(debs)
    with ThreadPoolExecutor() as pool:
        said = dict(
            zip(
                (deb.name for deb in found),
                pool.map(lambda deb: _kept(deb.path, deb.sha256, cache, _read_deb), found),
                strict=True,
            )
        )
    licences = {}
    for name, one in said.items():
        own = said.get(one.elsewhere, one)
        if own.licence is not None:
            licences[name] = own.licence
    return licences


class Deb(NamedTuple):
    """A Debian package that is here."""

    name: str
    path: Path
    sha256: str


def _kept(path: Path, sha256: str, cache: Path, read: Callable[[Path], _Said]) -> _Said:
    key = f"{sha256}.{_FORMAT}.json"
    if known := kept(cache / "licences", key):
        return _Said.model_validate_json(known.read_bytes())
    said = read(path)
    keep(cache / "licences", key, lambda place: place.write_text(said.to_json(), encoding="utf-8"))
    return said


def _read_wheel(path: Path) -> _Said:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                folder, _, name = info.filename.partition("/")
                if name == "METADATA" and folder.endswith(".dist-info"):
                    with archive.open(info) as member:
                        return _Said(licence=of_metadata(member.read(_LARGEST).decode("utf-8", "replace")))
    except DAMAGED as problem:
        raise FetchError(f"not a wheel: {problem}", where=path.name) from None
    return _Said(licence=None)


# Those whose name says which licence it is; "BSD License" and "Apache Software License" do not (PEP 639).
_CLASSIFIERS = {
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
}
_OSI = "License :: OSI Approved :: "
# Words of the old field that mean one licence and no other.
_WORDS = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache-2.0 license": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-3-clause license": "BSD-3-Clause",
    "mit license": "MIT",
    "the mit license": "MIT",
    "zpl 2.1": "ZPL-2.1",
}


def of_metadata(text: str) -> Licence | None:
    """The licence that a wheel's METADATA states."""
    headers = HeaderParser().parsestr(text)
    if known := _expression(headers.get("License-Expression") or ""):
        return Licence(expression=known)
    words = (headers.get("License") or "").strip()
    if words and not (found := of_words(words)).texts:
        return found
    classifiers = [one.strip() for one in headers.get_all("Classifier") or () if one.startswith("License ::")]
    names = [one.removeprefix(_OSI) for one in classifiers]
    if names and all(name in _CLASSIFIERS for name in names):
        return Licence(expression=_all_of(_CLASSIFIERS[name] for name in names))
    if words and words.upper() not in ("UNKNOWN", "NONE"):
        return of_words(words)
    if classifiers := [one for one in classifiers if one != _OSI.removesuffix(" :: ")]:
        return _named(classifiers[0].rpartition(" :: ")[2], "\n".join(classifiers))
    return None


def of_words(words: str) -> Licence:
    """A licence by what a person calls it."""
    known = _expression(words) or _WORDS.get(" ".join(words.lower().split()))
    return Licence(expression=known) if known else _named(words.splitlines()[0], words)


def of_readme(text: str) -> Licence | None:
    """The licence that the head of a README states, as the Hugging Face hub reads it (its "Model Cards")."""
    head = re.match(r"---[ \t]*\r?\n(.*?)\n---", text[:_LARGEST], re.DOTALL)
    if head is None:
        return None
    fields = dict(re.findall(r"^(license(?:_name)?):[ \t]*[\"']?([^\"'\r\n#\[\]]+)", head[1], re.MULTILINE))
    said = fields.get("license", "").strip()
    if not said:
        return None
    if known := _expression(said):
        return Licence(expression=known)
    name = fields.get("license_name", "").strip() if said == "other" else said
    return _named(name or said, name or said)


def _read_deb(path: Path) -> _Said:
    with path.open("rb") as file, open_files(file, path.name) as tar:
        for member in tar:
            name = posixpath.normpath(member.name).lstrip("/")
            if posixpath.dirname(name) == _FOLDER and member.issym():
                return _Said(licence=None, elsewhere=posixpath.basename(member.linkname))
            parts = name.split("/")
            if len(parts) == 5 and name.startswith(f"{_FOLDER}/") and parts[4] == "copyright":
                if member.issym():
                    return _Said(licence=None, elsewhere=member.linkname.split("/")[-2:][0])
                content = tar.extractfile(member)
                text = content.read(_LARGEST) if content is not None else b""
                return _Said(licence=of_copyright(text.decode("utf-8", "replace")))
    return _Said(licence=None)


def of_copyright(text: str) -> Licence | None:
    """The licences of a Debian copyright file, all of them: which of its files are in a binary package, it does not
    say. None where it is not the machine-readable form.
    """
    found_stanzas: list[dict[str, str]] = [*stanzas(text.lstrip("\ufeff\n")), {}]
    first = found_stanzas[0]
    if not re.search(r"copyright-format|dep\.debian\.net/deps/dep5", _field(first, "Format")):
        return None
    texts: dict[str, str] = {}
    wanted: dict[str, None] = {}
    for stanza in found_stanzas:
        short, _, body = _field(stanza, "License").partition("\n")
        short = " ".join(short.split())
        if not short:
            continue
        # The same licence may be stated with its text and without.
        texts[short] = texts.get(short) or _unfolded(body)
        if stanza is first or _field(stanza, "Files"):
            wanted[short] = None
    found = [_dep5(short, texts) for short in wanted]
    if not found:
        return None
    by_id = {text.id: text for one in found for text in one.texts}
    return Licence(
        expression=_all_of(one.expression for one in found), texts=tuple(by_id[ref] for ref in sorted(by_id))
    )


def _field(stanza: dict[str, str], name: str) -> str:
    return next((value for key, value in stanza.items() if key.lower() == name.lower()), "")


def _unfolded(body: str) -> str:
    return "\n".join("" if line.strip() == "." else line for line in body.split("\n")).strip("\n")


def _dep5(short: str, texts: dict[str, str]) -> Licence:
    """A licence field's first line (DEP-5, "Syntax"): `and` binds more than `or`, a comma less than both."""
    for separator, word in (
        (r",\s+and\s+", "AND"),
        (r",\s+or\s+", "OR"),
        (r"\s+or\s+", "OR"),
        (r"\s+and\s+|\s*,\s+", "AND"),
    ):
        parts = [part for part in re.split(separator, short, flags=re.IGNORECASE) if part]
        if len(parts) > 1:
            found = [_dep5(part, {**texts, part: texts.get(part) or texts.get(short, "")}) for part in parts]
            expressions = dict.fromkeys(_grouped(one.expression) for one in found)
            return Licence(
                expression=f" {word} ".join(expressions),
                texts=tuple({text.id: text for one in found for text in one.texts}.values()),
            )
    if known := _debians(short):
        return Licence(expression=known)
    return _named(short, texts.get(short) or short)


_GNU = re.compile(r"(A?GPL|LGPL|GFDL(?:-NIV)?)-(\d)(?:\.(\d))?(\+)?", re.IGNORECASE)
_DEBIANS = {
    "expat": "MIT",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "psf-2": "PSF-2.0",
    "cc0": "CC0-1.0",
    "zlib/libpng": "Zlib",
}


def _debians(short: str) -> str | None:
    """SPDX's expression for one of Debian's short names."""
    if gnu := _GNU.fullmatch(short):
        family, major, minor, later = gnu.groups()
        plain = family.upper().removesuffix("-NIV")
        middle = "-no-invariants" if family.upper().endswith("-NIV") else ""
        return _expression(f"{plain}-{major}.{minor or '0'}{middle}{'-or-later' if later else '-only'}")
    known = _DEBIANS.get(short.lower())
    return known or _expression(short) or _expression(f"{short}.0")


def _expression(text: str) -> str | None:
    """An SPDX expression of listed licences in its usual spelling, or None."""
    if not text or len(text) > 1000 or "licenseref" in text.lower():
        return None
    try:
        return str(canonicalize_license_expression(text))
    except (InvalidLicenseExpression, RecursionError):
        return None


def _named(name: str, text: str) -> Licence:
    """A licence that SPDX's list has not."""
    short = " ".join(name.split())[:_LONGEST_NAME]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", short).strip("-.") or "unnamed"
    mark = hashlib.sha256(f"{short}\0{text}".encode()).hexdigest()[:8]
    one = Text(id=f"LicenseRef-{slug}-{mark}", name=short, text=text)
    return Licence(expression=one.id, texts=(one,))


def _all_of(expressions: Iterable[str]) -> str:
    parts = [
        part for one in expressions for part in ([one] if re.search(r" OR |\(", one) else one.split(" AND "))
    ]
    found = list(dict.fromkeys(parts))
    return found[0] if len(found) == 1 else " AND ".join(sorted(map(_grouped, found)))


def _grouped(expression: str) -> str:
    is_plain = expression.startswith("(") or not re.search(r" (AND|OR) ", expression)
    return expression if is_plain else f"({expression})"
