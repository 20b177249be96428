"""What is kept beside an image, as referrers of it: its bill of materials, its provenance, signatures.

They are made and checked here. None of it is in the image, whose digest it names. A bill of materials is two documents
of one artifact: the packages', which the next push of an edited model has, too, and so does not send, and the image's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tungstenkit.bill import cyclonedx, spdx
from tungstenkit.bill.components import Other
from tungstenkit.bill.contents import bill_of
from tungstenkit.bill.provenance import MEDIA_TYPE as IN_TOTO
from tungstenkit.bill.provenance import PROVENANCE, provenance, statement
from tungstenkit.document import compact
from tungstenkit.registry.artifact import TITLE, Artifact, Layer, layers_of, subject_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tungstenkit.bill.contents import Made
    from tungstenkit.bill.signature import PrivateKey, PublicKey, Statement
    from tungstenkit.registry.artifact import Descriptor
    from tungstenkit.registry.base import Place

FORMATS = {"spdx": spdx, "cyclonedx": cyclonedx}
"""By the names that a user knows them by."""
LARGEST = 1 << 26
"""In bytes, of a bill of materials."""


@dataclass(frozen=True)
class Documents:
    """A bill of materials as it is kept beside an image; each can be read by itself."""

    packages: bytes
    """Of all that was locked, by which vulnerabilities are looked up: it comes first, since some read no more."""
    image: bytes
    """Of the image and what is the model's own; it names the other, with its hash."""


def documents(made: Made, cache: Path | None = None) -> dict[str, Documents]:
    """The bill of materials of a built image, in each format, by media type. Raises as `bill_of`."""
    packages, image = bill_of(made, cache).apart()
    found = {}
    for form in FORMATS.values():
        first = form.document(packages)
        data = compact(first)
        second = form.document(image, Other(packages, first[form.NAME], hashlib.sha256(data).hexdigest()))
        found[form.MEDIA_TYPE] = Documents(data, compact(second))
    return found


def referrers(
    made: Made, subject: Descriptor, builder: str, key: PrivateKey | None = None, cache: Path | None = None
) -> list[Artifact]:
    """What `push` keeps beside an image.

    subject: the image's manifest, as it is in the registry. builder: the platform of the machine that has built it.
    key: what signs the provenance, and the image. Raises as `bill_of`.
    """
    assert subject.digest == made.image.digest  # an image is pushed as it is
    bills = documents(made, cache)
    name = made.spec.name
    found = [_bill(kind, data, subject, name) for kind, data in bills.items()]
    said = provenance(made, builder, {kind: (data.packages, data.image) for kind, data in bills.items()})
    if key is None:
        titled = {TITLE: f"{name}.provenance.json"}
        return [*found, Artifact(IN_TOTO, [Layer(said, IN_TOTO, titled)], subject)]
    return [*found, _signed(said, PROVENANCE, subject, key), signature(subject, name, key)]


def signature(subject: Descriptor, name: str, key: PrivateKey) -> Artifact:
    """That a key's owner means this image, or an index of several, and no more."""
    from tungstenkit.bill.signature import SIGNED_IMAGE

    return _signed(statement(subject.digest, name, SIGNED_IMAGE, {}), SIGNED_IMAGE, subject, key)


def _bill(kind: str, said: Documents, subject: Descriptor, name: str) -> Artifact:
    end = "spdx.json" if kind == spdx.MEDIA_TYPE else "cdx.json"
    layers = [
        Layer(said.packages, kind, {TITLE: f"{name}.packages.{end}"}),
        Layer(said.image, kind, {TITLE: f"{name}.{end}"}),
    ]
    return Artifact(kind, layers, subject)


def _signed(said: bytes, kind: str, subject: Descriptor, key: PrivateKey) -> Artifact:
    from tungstenkit.bill.signature import MEDIA_TYPE, bundle

    annotations = {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": kind}
    return Artifact(MEDIA_TYPE, [Layer(bundle(said, key), MEDIA_TYPE)], subject, annotations)


@dataclass(frozen=True)
class Signed:
    """What a key has signed of an image."""

    statements: tuple[Statement, ...]
    bills: tuple[str, ...]
    """The media types of its bills of materials, each the very documents that the provenance names."""
    passed_over: tuple[str, ...]
    """What else is beside it, and is not this key's."""


def check_whole(place: Place, image: str) -> None:
    """FetchError where what is said of an image is damaged where it is kept. image: its manifest's digest."""
    from tungstenkit.bill.signature import MEDIA_TYPE

    for kind in (*(one.MEDIA_TYPE for one in FORMATS.values()), IN_TOTO, MEDIA_TYPE):
        for one in place.referrers(image, kind):
            for blob in _blobs(place, one):
                place.document(blob.digest, blob.size, LARGEST)


def check_signed(place: Place, image: str, key: PublicKey, bare: Iterable[Place] = ()) -> Signed:
    """What a key has signed of an image, with its bills of materials; only the place where it is is asked.

    image: its manifest's digest. bare: where it is without signatures: bills of materials there must be those that were
    signed.

    Raises UnsignedError where it has signed nothing, SignatureError where something was changed that it has signed, and
    FetchError where the place does not give what it lists.
    """
    from tungstenkit.bill.signature import LARGEST as LARGEST_BUNDLE
    from tungstenkit.bill.signature import MEDIA_TYPE, SignatureError, StrangerError, UnsignedError, opened

    found: list[Statement] = []
    others: list[str] = []
    for one in sorted(place.referrers(image, MEDIA_TYPE), key=lambda one: one.digest):
        where = f"{place.name}@{one.digest}"
        try:
            said = opened(_only_blob(place, one, image, MEDIA_TYPE, LARGEST_BUNDLE), key)
        except StrangerError as problem:
            others.append(f"{where}: {problem.what}")
            continue
        except SignatureError as problem:
            raise problem.reworded(where=where) from None
        if image not in said.digests:
            raise SignatureError(
                "this signature is of another image",
                where=where,
                hint=f"it is of {', '.join(sorted(said.digests))[:200]}",
            )
        found.append(said)
    if not found:
        raise UnsignedError(
            "\n".join(["this key has signed nothing of this image", *others]),
            where=f"{place.name}@{image}",
            hint="`tungsten push REF --sign KEY` signs it; copies by other tools may have no signatures: --inputs "
            "names the image that was pushed",
        )
    bills = [kind for said in found if said.kind == PROVENANCE for kind in _check_bills(place, image, said)]
    for other in bare:
        for said in found:
            _check_bills(other, image, said, may_lack=True)
    return Signed(tuple(found), tuple(dict.fromkeys(bills)), tuple(others))


def _check_bills(place: Place, image: str, said: Statement, *, may_lack: bool = False) -> list[str]:
    """The media types of the bills of materials that a provenance names. SignatureError for one that is another."""
    from tungstenkit.bill.signature import SignatureError

    checked = []
    for kind, wanted in _named_bills(said).items():
        there = [_blobs(place, one) for one in place.referrers(image, kind)]
        if found := next((blobs for blobs in there if [blob.digest for blob in blobs] == wanted), None):
            for blob in found:
                place.document(blob.digest, blob.size, LARGEST)
            checked.append(kind)
        elif there or not may_lack:
            what = "is another than was signed" if there else "was signed, and is not there"
            raise SignatureError(
                f"the image's bill of materials ({kind}) {what}",
                where=f"{place.name}@{image}",
                hint="`tungsten push REF --sign KEY` attaches and signs it again",
            )
    return checked


def _named_bills(said: Statement) -> dict[str, list[str]]:
    """The digests of the bills of materials that a provenance names, in their order, by media type."""
    details = said.predicate.get("runDetails")
    named = details.get("byproducts") if isinstance(details, dict) else None
    known = {form.MEDIA_TYPE for form in FORMATS.values()}
    found: dict[str, list[str]] = {}
    for one in named if isinstance(named, list) else ():
        if isinstance(one, dict) and isinstance(digest := one.get("digest"), dict):
            kind = one.get("mediaType")
            if isinstance(kind, str) and kind in known:
                found.setdefault(kind, []).append(f"sha256:{digest.get('sha256')}")
    return found


def _blobs(place: Place, one: Descriptor) -> list[Descriptor]:
    """What an artifact of anybody's holds; nothing where it is none."""
    try:
        return layers_of(place.manifest(one.digest))
    except ValueError:
        return []


def _only_blob(place: Place, one: Descriptor, image: str, kind: str, most: int) -> bytes:
    """The blob of an artifact that has one, which is about an image. SignatureError where it is otherwise."""
    from tungstenkit.bill.signature import SignatureError

    where = f"{place.name}@{one.digest}"
    content = place.manifest(one.digest)
    try:
        layers, about = layers_of(content), subject_of(content)
    except ValueError as problem:
        raise SignatureError(f"this is no manifest of a signature: {problem}", where=where) from None
    if about != image:
        raise SignatureError("this is kept beside the image, and is about another", where=where)
    if len(layers) != 1 or layers[0].media_type != kind:
        raise SignatureError(f"this is no artifact with one blob of {kind}", where=where)
    return place.document(layers[0].digest, layers[0].size, most)
