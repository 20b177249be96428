"""Where an image is from: an in-toto statement with SLSA's provenance (v1), of what was built, of what, and by what.

Its materials are the lock's inputs, all by hash, and its builder is the tungsten that has built the image on this
machine. Nothing of the day is in it, nor of the machine but its platform: the same bytes wherever that tungsten builds
that lock on such a machine.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tungstenkit.bill.components import purl
from tungstenkit.bill.contents import Made, packages_of
from tungstenkit.data import VERSION
from tungstenkit.digest import sha256_of
from tungstenkit.document import compact
from tungstenkit.fetch.bring import store_files
from tungstenkit.lock.parts import Tungsten
from tungstenkit.lock.selection import part_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
_US = "tungstenkit-nix"
BUILD_TYPE = f"pkg:generic/{_US}#docs/guide.md"
"""What tells a reader what the parameters mean; the guide, wherever this tungsten came from."""


def statement(digest: str, name: str, kind: str, predicate: Mapping[str, Any]) -> bytes:
    """An in-toto statement (v1) about an image. digest: its manifest's. kind: the predicate's type."""
    value = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    return compact(value)


def provenance(made: Made, builder: str, byproducts: Mapping[str, Sequence[bytes]]) -> bytes:
    """The statement of a built image.

    builder: the platform of the machine that has built it. byproducts: documents about it, by their media types:
    whoever believes the statement can tell by it whether they are those that were made then.
    """
    lock, spec = made.lock.to_json().encode(), made.spec.to_json().encode()
    this = Tungsten.this().model_dump()
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "model": made.spec.name,
                "platform": made.system,
                "lock": _digest(lock),
                "spec": _digest(spec),
            },
            "resolvedDependencies": [*_materials(made, builder)],
        },
        "runDetails": {
            "builder": {
                "id": purl("generic", _US, VERSION),
                "version": {_US: VERSION},
                "builderDependencies": [
                    {"name": name, "digest": {"sha256": this[name]}} for name in ("nix", "sdk", "server")
                ],
            },
            "metadata": {},
            "byproducts": [
                {"mediaType": kind, "digest": _digest(one)}
                for kind, several in sorted(byproducts.items())
                for one in several
            ],
        },
    }
    return statement(made.image.digest, made.spec.name, PROVENANCE, predicate)


def _materials(made: Made, builder: str) -> Iterator[dict[str, Any]]:
    """All that a build takes: what the lock names, the tools of this machine's platform too, and the model's files."""
    part = part_of(made.lock, [made.system], builder)
    named = packages_of(part)
    found: dict[tuple[str, str], str] = {}
    for file in store_files(part, made.contents.big):
        known = named.get(file.sha256)
        found[known or file.file.rpartition("/")[2], file.sha256] = "uri" if known else "name"
    big = {file.path for file in made.contents.big}
    for own in made.contents.files:
        if own.kind == "file" and own.path not in big:
            found[f"model/{own.path}", sha256_of(made.contents.directory / own.path)] = "name"
    # One of both is enough for who reads it, and there are many.
    for (called, sha256), how in sorted(found.items()):
        yield {how: called, "digest": {"sha256": sha256}}


def _digest(data: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(data).hexdigest()}
