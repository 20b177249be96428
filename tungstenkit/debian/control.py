"""Debian's control data: stanzas, and the fields that relate packages to one another.

Only syntax is known here (Debian policy 5.1 and 7.1); what a relation means is `index`'s and `solve`'s
business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RELATION = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::(?P<qualifier>[a-z0-9-]+))?"
    r"(?:\s*\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s()<>=]+)\s*\))?"
)
# The single ones are obsolete and mean "or equal", as dpkg reads them.
_OBSOLETE_OPERATORS = {"<": "<=", ">": ">="}


@dataclass(frozen=True, slots=True)
class Relation:
    """One name in a relationship field: `libc6:any (>= 2.36)`."""

    name: str
    qualifier: str | None = None
    """An architecture, `any` or `native`."""
    operator: str | None = None
    """`<<`, `<=`, `=`, `>=` or `>>`; None where every version will do."""
    version: str = ""

    def __str__(self) -> str:
        """As it is written in a control file."""
        name = f"{self.name}:{self.qualifier}" if self.qualifier else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name


Alternatives = tuple[Relation, ...]
"""Relations of which one must hold: `a | b`."""


def alternatives(text: str) -> Alternatives:
    """Read one element of a relationship field: relations parted by `|`. Raises ValueError."""
    return tuple(_relation(part.strip()) for part in text.split("|"))


def relations(field: str) -> list[Alternatives]:
    """Read a relationship field: elements parted by commas, all of which must hold. Raises ValueError."""
    return [alternatives(part) for part in field.split(",") if part.strip()]


def _relation(text: str) -> Relation:
    if not (match := _RELATION.fullmatch(text)):
        raise ValueError(f"not a relation between packages: {text!r}")
    operator = match["operator"]
    return Relation(
        match["name"],
        match["qualifier"],
        _OBSOLETE_OPERATORS.get(operator, operator),
        match["version"] or "",
    )


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of a control file, in order; a folded or multi-line value keeps its line breaks."""
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')}\n{line[1:]}"
            elif line and not line.startswith("#"):
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields
