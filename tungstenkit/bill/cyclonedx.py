"""A bill of materials as CycloneDX 1.6 (JSON), which has models and their weights as components (ML-BOM).

A layer says how many of its entries each component has, by its `bom-ref`, which it has in each document. Another one is
a BOM-Link of the image.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tungstenkit.data import VERSION
from tungstenkit.document import compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.bill.components import Bill, Built, Component, Layer, Other

MEDIA_TYPE = "application/vnd.cyclonedx+json"
NAME = "serialNumber"
"""The key of a document's name, which no other has."""
_OWN = "tungsten:"
"""Before the names of properties of ours."""
_TYPES = {"archive": "file", "source": "library"}
"""Where CycloneDX has another word for a kind."""


def document(bill: Bill, other: Other | None = None) -> dict[str, Any]:
    """The document; the same for the same bill and tungsten. other: one that describes what the bill does not."""
    elsewhere = other.bill.refs if other is not None else frozenset()
    inside = [one.ref for one in bill.components if one.ref not in bill.opaque]
    if other is not None:
        inside.append(f"{_link(other)}#{quote(other.bill.subject.ref)}")
    value: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": bill.created,
            "tools": {"components": [{"type": "application", "name": "tungstenkit-nix", "version": VERSION}]},
            "component": {
                **_component(bill.subject),
                "components": [_layer(layer, is_whole=layer.ref not in elsewhere) for layer in bill.layers],
                **({"externalReferences": [_reference(other)]} if other is not None else {}),
            },
        },
        "components": [_component(one) for one in bill.components],
        "dependencies": [*_dependencies(bill)],
        "compositions": [
            {"aggregate": "complete", "assemblies": [bill.subject.ref, *inside]},
            *({"aggregate": "unknown", "assemblies": [ref]} for ref in sorted(bill.opaque)),
        ],
    }
    if bill.built:
        value["formulation"] = [_formula(one) for one in bill.built]
    # Of all that it says, so that no two documents have the same.
    value[NAME] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, compact(value).decode())}"
    return value


def _link(other: Other) -> str:
    """A document by its BOM-Link."""
    return f"urn:cdx:{other.name.removeprefix('urn:uuid:')}/1"


def _reference(other: Other) -> dict[str, Any]:
    return {"type": "bom", "url": _link(other), "hashes": [{"alg": "SHA-256", "content": other.sha256}]}


def _component(one: Component, prefix: str = "") -> dict[str, Any]:
    digest = one.version.removeprefix("sha256:") if one.kind == "container" else one.sha256
    facts = [(name, said) for name, said in one.facts]
    if one.file and not one.file.startswith("/"):
        facts.append(("file", one.file))
    return {
        "bom-ref": f"{prefix}{one.ref}",
        "type": _TYPES.get(one.kind, one.kind),
        "name": one.name,
        **({"version": one.version} if one.version else {}),
        **({"purl": one.purl} if one.purl else {}),
        **({"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}),
        **(
            {"licenses": [{"expression": one.licence.expression, "acknowledgement": "declared"}]}
            if one.licence is not None
            else {}
        ),
        **({"evidence": {"occurrences": [{"location": one.file}]}} if one.file.startswith("/") else {}),
        **({"components": [_component(part, prefix) for part in one.parts]} if one.parts else {}),
        **({"properties": [_property(name, said) for name, said in facts]} if facts else {}),
    }


def _layer(layer: Layer, *, is_whole: bool) -> dict[str, Any]:
    """A layer; is_whole: whether what it is made of is said here."""
    facts = {"made-of": layer.made_of, "diff-id": layer.diff_id, "entries": str(layer.entries)}
    facts |= {f"entries:{ref}": str(count) for ref, count in layer.owners.items()}
    return {
        "bom-ref": layer.ref,
        "type": "file",
        "name": f"layer {layer.number}",
        "mime-type": layer.media_type,
        "hashes": [{"alg": "SHA-256", "content": layer.digest.removeprefix("sha256:")}],
        **({"properties": [_property(name, said) for name, said in facts.items()]} if is_whole else {}),
    }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"{_OWN}{name}", "value": value}


def _dependencies(bill: Bill) -> Iterator[dict[str, Any]]:
    asked: dict[str, list[str]] = {bill.subject.ref: []}
    for ref, askers in bill.needs.items():
        for who in askers:
            asked.setdefault(who, []).append(ref)
    for one in bill.components:
        asked.setdefault(one.ref, [])
    for ref, needed in sorted(asked.items()):
        yield {"ref": ref, **({"dependsOn": sorted(needed)} if needed else {})}


def _formula(built: Built) -> dict[str, Any]:
    """How a wheel was built. Its components are this formula's, though the image may have the same."""
    prefix = f"built:{built.source.file}:"
    return {
        "bom-ref": f"{prefix}formula",
        "components": [_component(one, prefix) for one in (built.source, *built.tools)],
        "properties": [_property("makes", built.component), _property("backend", built.backend)],
    }
