"""A bill of materials as SPDX 2.3 (JSON).

A component is a package there, a file too: SPDX wants a SHA-1 of each file, and what a lock has is SHA-256. A layer is
one that contains those which own its entries, with their number in the relationship's comment. What another document
describes is named by `externalDocumentRefs`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import TYPE_CHECKING, Any

from tungstenkit.data import VERSION
from tungstenkit.document import compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.bill.components import Bill, Component, Layer, Other

MEDIA_TYPE = "application/spdx+json"
NAME = "documentNamespace"
"""The key of a document's name, which no other has."""
_DOCUMENT, _OTHER = "SPDXRef-DOCUMENT", "DocumentRef-packages"
_UNSAID = "NOASSERTION"
_PURPOSES = {
    "application": "APPLICATION",
    "archive": "ARCHIVE",
    "container": "CONTAINER",
    "data": "OTHER",
    "file": "FILE",
    "library": "LIBRARY",
    "machine-learning-model": "OTHER",
    "operating-system": "OPERATING-SYSTEM",
    "platform": "OTHER",
    "source": "SOURCE",
}


def document(bill: Bill, other: Other | None = None) -> dict[str, Any]:
    """The document; the same for the same bill and tungsten. other: one that describes what the bill does not."""
    texts = {
        text.id: text
        for one in bill.components
        for text in (one.licence.texts if one.licence is not None else ())
    }
    value: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": f"{bill.subject.name} {bill.subject.version}".strip(),
        "creationInfo": {"created": bill.created, "creators": [f"Tool: tungstenkit-nix-{VERSION}"]},
        "packages": [*_packages(bill, other)],
        "relationships": [*_relationships(bill, other)],
    }
    if other is not None:
        checksum = {"algorithm": "SHA256", "checksumValue": other.sha256}
        named = {"externalDocumentId": _OTHER, "spdxDocument": other.name, "checksum": checksum}
        value["externalDocumentRefs"] = [named]
    if texts:
        value["hasExtractedLicensingInfos"] = [
            {"licenseId": one.id, "name": one.name, "extractedText": one.text or one.name}
            for _, one in sorted(texts.items())
        ]
    # Of all that it says, so that no two documents have the same.
    value[NAME] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, compact(value).decode())}"
    return value


def _packages(bill: Bill, other: Other | None) -> Iterator[dict[str, Any]]:
    seen = set()
    for one in _every(bill):
        if one.ref not in seen:
            seen.add(one.ref)
            yield _package(one)
    for layer in bill.layers:
        if other is None or layer.ref not in other.bill.refs:
            yield _layer(layer)


def _every(bill: Bill) -> Iterator[Component]:
    yield bill.subject
    for one in bill.components:
        yield one
        yield from one.parts
    for built in bill.built:
        yield built.source
        yield from built.tools


def _package(one: Component) -> dict[str, Any]:
    digest = one.version.removeprefix("sha256:") if one.kind == "container" else one.sha256
    return {
        "SPDXID": _id(one.ref),
        "name": one.name,
        "downloadLocation": _UNSAID,
        "filesAnalyzed": False,
        "licenseConcluded": _UNSAID,
        "licenseDeclared": one.licence.expression if one.licence is not None else _UNSAID,
        "copyrightText": _UNSAID,
        "primaryPackagePurpose": _PURPOSES[one.kind],
        **({"versionInfo": one.version} if one.version else {}),
        **({"packageFileName": one.file} if one.file else {}),
        **({"checksums": [{"algorithm": "SHA256", "checksumValue": digest}]} if digest else {}),
        **({"comment": "\n".join(f"{name}: {said}" for name, said in one.facts)} if one.facts else {}),
        **(
            {
                "externalRefs": [
                    {
                        "referenceCategory": "PACKAGE-MANAGER",
                        "referenceType": "purl",
                        "referenceLocator": one.purl,
                    }
                ]
            }
            if one.purl
            else {}
        ),
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "SPDXID": _id(layer.ref),
        "name": f"layer {layer.number}",
        "downloadLocation": _UNSAID,
        "filesAnalyzed": False,
        "licenseConcluded": _UNSAID,
        "licenseDeclared": _UNSAID,
        "copyrightText": _UNSAID,
        "primaryPackagePurpose": "ARCHIVE",
        "checksums": [{"algorithm": "SHA256", "checksumValue": layer.digest.removeprefix("sha256:")}],
        "comment": f"{layer.made_of}\ndiff-id: {layer.diff_id}\nentries: {layer.entries}",
    }


def _relationships(bill: Bill, other: Other | None) -> Iterator[dict[str, str]]:
    elsewhere = other.bill.refs if other is not None else frozenset()

    def named(ref: str) -> str:
        return f"{_OTHER}:{_id(ref)}" if ref in elsewhere else _id(ref)

    subject = _id(bill.subject.ref)
    yield _related(_DOCUMENT, "DESCRIBES", subject)
    if other is not None:
        yield _related(subject, "CONTAINS", named(other.bill.subject.ref))
    for layer in bill.layers:
        yield _related(subject, "CONTAINS", named(layer.ref))
        if layer.ref not in elsewhere:
            for ref, count in layer.owners.items():
                yield _related(_id(layer.ref), "CONTAINS", named(ref), f"{count} of its entries")
    owners = {ref for layer in bill.layers for ref in layer.owners}
    for one in bill.components:
        if one.ref not in owners:
            yield _related(subject, "CONTAINS", _id(one.ref))
        for part in one.parts:
            yield _related(_id(one.ref), "CONTAINS", _id(part.ref))
    for ref, asked in sorted(bill.needs.items()):
        for who in asked:
            yield _related(_id(who), "DEPENDS_ON", _id(ref))
    for built in bill.built:
        yield _related(_id(built.component), "GENERATED_FROM", _id(built.source.ref), f"by {built.backend}")
        for tool in built.tools:
            yield _related(_id(tool.ref), "BUILD_TOOL_OF", _id(built.component))


def _related(one: str, how: str, other: str, comment: str = "") -> dict[str, str]:
    found = {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
    return {**found, "comment": comment} if comment else found


def _id(ref: str) -> str:
    """A ref as SPDX takes it, in letters, digits, `.` and `-`, and yet no other's."""
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", ref)[:60]
    return f"SPDXRef-{slug}-{hashlib.sha256(ref.encode()).hexdigest()[:12]}"
