"""Debian versions, and the one relation between packages that matters when files are laid out: Replaces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from program import ToolError

_RELATION = re.compile(r"^\s*([a-z0-9][a-z0-9+.-]*)(?::\S+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*(\S+?)\s*\))?\s*$")


@dataclass
class Package:
    """A Debian package, as far as layers and scanners are concerned. `replaces_field`: the control field, unparsed."""

    name: str
    version: str
    architecture: str
    replaces_field: str = field(default="")

    def replaces(self, other: Package) -> bool:
        """Whether this package may take over files of the other (Debian policy 7.6.1)."""
        for relation in filter(str.strip, self.replaces_field.split(",")):
            match = _RELATION.match(relation)
            if match is None:
                raise ToolError(f"package {self.name}: cannot read 'Replaces: {relation.strip()}'")
            name, operator, version = match.groups()
            if name == other.name and (operator is None or _holds(other.version, operator, version)):
                return True
        return False

    def to_json(self) -> dict[str, str]:
        """The package as files.json has it."""
        return {
            "name": self.name,
            "version": self.version,
            "architecture": self.architecture,
            "replaces": self.replaces_field,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Package:
        """The inverse of `to_json`."""
        return Package(value["name"], value["version"], value["architecture"], value["replaces"])


def version_key(version: str) -> tuple[object, ...]:
    """A key that sorts versions as dpkg does (Debian policy 5.6.12): epoch, upstream version, revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), _part_key(upstream), _part_key(revision)


def _part_key(part: str) -> tuple[object, ...]:
    # Alternately text and number. In text a tilde comes before the end, the end before letters, letters
    # before the rest.
    key: list[object] = []
    for text, number in re.findall(r"([^0-9]*)([0-9]*)", part or "0")[:-1]:
        key += [(*map(_character_rank, text), 0), int(number or 0)]
    return (*key, (0,))


def _character_rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _holds(left: str, operator: str, right: str) -> bool:
    a, b = version_key(left), version_key(right)
    less, equal = a < b, a == b
    return {"<<": less, "<=": less or equal, "=": equal, ">=": not less, ">>": not (less or equal)}[operator]
