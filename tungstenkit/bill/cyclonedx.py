"""A bill of materials as CycloneDX 1.6 (JSON), which has models and their weights as components (ML-BOM)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from tungstenkit.data import VERSION
from tungstenkit.document import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tungstenkit.bill.components import Bill, Built, Component, Layer

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_OWN = "tungsten:"
"""Before the names of properties of ours."""
_TYPES = {"archive": "file", "source": "library"}
"""Where CycloneDX has another word for a kind."""


def document(bill: Bill) -> bytes:
    """The document; the same bytes for the same bill and tungsten."""
    counts: dict[str, dict[str, int]] = {}
    for layer in bill.layers:
        for ref, count in layer.owners.items():
            counts.setdefault(ref, {})[layer.digest] = count
    inside = [one.ref for one in bill.components if one.ref not in bill.opaque]
    value: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": bill.created,
            "tools": {"components": [{"type": "application", "name": "tungstenkit-nix", "version": VERSION}]},
            "component": {
                **_component(bill.image, counts),
                "components": [_layer(layer, number) for number, layer in enumerate(bill.layers)],
            },
        },
        "components": [_component(one, counts) for one in bill.components],
        "dependencies": [*_dependencies(bill)],
        "compositions": [
            {"aggregate": "complete", "assemblies": [bill.image.ref, *inside]},
            *({"aggregate": "unknown", "assemblies": [ref]} for ref in sorted(bill.opaque)),
        ],
    }
    if bill.built:
        value["formulation"] = [_formula(one) for one in bill.built]
    # Of all that it says, so that no two documents have the same.
    value["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, to_json(value))}"
    return to_json(value).encode()


def _component(one: Component, counts: Mapping[str, Mapping[str, int]], prefix: str = "") -> dict[str, Any]:
    digest = one.version.removeprefix("sha256:") if one.kind == "container" else one.sha256
    facts = [(name, said) for name, said in one.facts]
    if one.file and not one.file.startswith("/"):
        facts.append(("file", one.file))
    facts += [(f"entries:{layer}", str(count)) for layer, count in counts.get(one.ref, {}).items()]
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
        **({"components": [_component(part, counts, prefix) for part in one.parts]} if one.parts else {}),
        **({"properties": [_property(name, said) for name, said in facts]} if facts else {}),
    }


def _layer(layer: Layer, number: int) -> dict[str, Any]:
    facts = {"made-of": layer.made_of, "diff-id": layer.diff_id, "entries": str(layer.entries)}
    return {
        "bom-ref": f"layer:{number}",
        "type": "file",
        "name": f"layer {number}",
        "mime-type": layer.media_type,
        "hashes": [{"alg": "SHA-256", "content": layer.digest.removeprefix("sha256:")}],
        "properties": [_property(name, said) for name, said in facts.items()],
    }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"{_OWN}{name}", "value": value}


def _dependencies(bill: Bill) -> Iterator[dict[str, Any]]:
    asked: dict[str, list[str]] = {bill.image.ref: []}
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
        "components": [_component(one, {}, prefix) for one in (built.source, *built.tools)],
        "properties": [_property("makes", built.component), _property("backend", built.backend)],
    }
