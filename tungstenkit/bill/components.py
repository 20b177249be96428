"""The parts of an image, as a bill of materials lists them; `spdx` and `cyclonedx` write them down."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tungstenkit.bill.licences import Licence

Kind = Literal[
    "application",
    "archive",
    "container",
    "data",
    "file",
    "library",
    "machine-learning-model",
    "operating-system",
    "platform",
    "source",
]


@dataclass(frozen=True)
class Component:
    """Something with a name that an image has, or was made with."""

    ref: str
    """Its name in the document, `deb:libc6`: the same in every document that has it."""
    kind: Kind
    name: str
    version: str = ""
    purl: str = ""
    """Its package URL, where there is a type for it."""
    sha256: str = ""
    """Of its file."""
    file: str = ""
    """That file's name, as the lock has it; of a file of the image, its path there."""
    licence: Licence | None = None
    """As it says itself."""
    facts: tuple[tuple[str, str], ...] = ()
    """What else the lock says of it, by name."""
    parts: tuple[Component, ...] = ()
    """What it is made of, where that is not listed by itself: files of a repository, layers of a base image."""


@dataclass(frozen=True)
class Layer:
    """A layer of the image, and whose its entries are."""

    number: int
    """The lowest is 0."""
    digest: str
    diff_id: str
    size: int
    media_type: str
    made_of: str
    """What it is said to be in the image's history."""
    owners: Mapping[str, int]
    """How many entries each component has in it, by its ref."""

    @property
    def ref(self) -> str:
        """As a component's."""
        return f"layer:{self.number}"

    @property
    def entries(self) -> int:
        """How many files, folders and links it has."""
        return sum(self.owners.values())


@dataclass(frozen=True)
class Built:
    """A wheel that was built from source, and with what; none of that is in the image."""

    component: str
    """The wheel's ref."""
    source: Component
    tools: tuple[Component, ...]
    backend: str


@dataclass(frozen=True)
class Bill:
    """All that is said of an image's contents, or of a part of them."""

    subject: Component
    """What it is of: the image, whose version is its digest, or the packages of one."""
    created: str
    """When the image itself says that it was made: nothing of the day (RFC 3339, UTC)."""
    components: tuple[Component, ...]
    """What is in it, sorted by ref."""
    layers: tuple[Layer, ...]
    """The lowest first."""
    needs: Mapping[str, tuple[str, ...]]
    """By ref what asked for it: the refs of components, and the subject's own for a wish of the model's."""
    built: tuple[Built, ...] = ()
    opaque: frozenset[str] = field(default_factory=frozenset)
    """The refs of what is one component here, and has more in it than this document says: a base image."""
    packages: frozenset[str] = field(default_factory=frozenset)
    """The refs of what is no model's own, but was locked, or is tungsten's."""

    def apart(self) -> tuple[Bill, Bill]:
        """The bill of the packages, which is the same after an edit of the model, and that of the image without them.

        A layer in which nothing is the model's own is the packages'. The image's bill names all of its layers.
        """
        about = tuple(fact for fact in self.subject.facts if fact[0] == "platform")
        among = Component("packages", "platform", "packages", facts=about)
        packages = replace(
            self,
            subject=among,
            components=tuple(one for one in self.components if one.ref in self.packages),
            layers=tuple(layer for layer in self.layers if layer.owners.keys() <= self.packages),
            needs={
                ref: tuple(among.ref if who == self.subject.ref else who for who in asked)
                for ref, asked in self.needs.items()
                if ref in self.packages
            },
        )
        image = replace(
            self,
            components=tuple(one for one in self.components if one.ref not in self.packages),
            needs={ref: asked for ref, asked in self.needs.items() if ref not in self.packages},
            built=(),
            opaque=frozenset(),
        )
        return packages, image

    @property
    def refs(self) -> frozenset[str]:
        """The refs of all that a document of it describes."""
        parts = (self.subject, *self.components)
        return frozenset([*(one.ref for one in parts), *(one.ref for one in self.layers)])


@dataclass(frozen=True)
class Other:
    """Another document, in the same format, to which one refers for what it does not describe itself."""

    bill: Bill
    name: str
    """Which no other document has."""
    sha256: str


def purl(kind: str, name: str, version: str = "", *, namespace: str = "", **qualifiers: str) -> str:
    """A package URL (purl specification, "Rules for each purl component"); empty qualifiers are left out."""
    parts = [kind, *filter(None, namespace.split("/")), name]
    said = "pkg:" + "/".join(_quoted(part) for part in parts)
    if version:
        said += f"@{_quoted(version)}"
    given = {key: value for key, value in sorted(qualifiers.items()) if value}
    if given:
        said += "?" + "&".join(f"{key}={_quoted(value, '/')}" for key, value in given.items())
    return said


def quoted_path(path: str) -> str:
    """A path as the last part of a package URL, after its `#`."""
    return "/".join(map(_quoted, path.split("/")))


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=f":{safe}")


def deb_purl(name: str, version: str, architecture: str, distro: str = "", source: str | None = None) -> str:
    """A Debian package's; source: as the lock has it, `glibc (2.36-9)`."""
    found = re.fullmatch(r"(\S+) \((\S+)\)", source or "")
    upstream = ""
    if found is not None and (found[1] != name or found[2] != version):
        # As scanners write it, who look up a source package's vulnerabilities by it.
        upstream = found[1] if found[2] == version else f"{found[1]}@{found[2]}"
    return purl("deb", name, version, namespace="debian", arch=architecture, distro=distro, upstream=upstream)
