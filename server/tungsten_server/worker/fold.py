"""What pieces of an output come to, as JSON: for the model process, for the server, and for clients of ours.

Standard library only, and no import of this package, as of `frames`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def concatenated(output_schema: Mapping[str, Any]) -> list[str]:
    """The fields whose values in pieces come one after the other; of all others the last one counts."""
    properties = output_schema.get("properties", {})
    return [name for name, field in properties.items() if field.get("x-fold") == "concatenate"]


class Fold:
    """Pieces, put together field by field. What a piece leaves out stays as it is."""

    def __init__(self, concatenated: Collection[str]) -> None:
        """concatenated: the fields of which the values are strings or lists that come one after the other."""
        self._concatenated = concatenated
        self._fields: dict[str, Any] = {}
        """Of what is concatenated all values, so that each piece costs what it is long."""

    def add(self, piece: Mapping[str, Any]) -> None:
        """Put a piece behind those before."""
        for name, value in piece.items():
            if name not in self._concatenated:
                self._fields[name] = value
            else:
                parts = self._fields.setdefault(name, [])
                if value is not None:
                    parts.append(value)

    def value(self) -> dict[str, Any]:
        """All pieces as one."""
        return {
            name: _joined(value) if name in self._concatenated else value
            for name, value in self._fields.items()
        }


def _joined(parts: list[Any]) -> Any:  # noqa: ANN401 (JSON)
    if not parts:
        return None
    if all(isinstance(one, str) for one in parts):
        return "".join(parts)
    return [item for one in parts for item in one]
