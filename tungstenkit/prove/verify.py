"""An image is proved: built again of what is kept beside it, and compared layer by layer.

The order of the steps. Whatever is judged is somebody else's until the end; each step refuses by name what is not what
it should be, and nothing that was not checked gets to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tungstenkit import nix_program, started, store
from tungstenkit.bill.referrers import check_signed, check_whole
from tungstenkit.bill.signature import UnsignedError
from tungstenkit.fetch.needs import result_files
from tungstenkit.lock.selection import part_of
from tungstenkit.platforms import this_system
from tungstenkit.prove import evidence
from tungstenkit.prove.comparison import Difference, compare
from tungstenkit.prove.image import built_image, image_at, opened
from tungstenkit.prove.makers import Maker, maker
from tungstenkit.prove.rebuild import rebuild
from tungstenkit.registry.place import place as place_of
from tungstenkit.sdk.errors import FetchError
from tungstenkit.spec.files import is_export

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tungstenkit.bill.referrers import Signed
    from tungstenkit.bill.signature import PublicKey
    from tungstenkit.lock.document import Lock
    from tungstenkit.prove.comparison import FileDifference
    from tungstenkit.prove.image import Image
    from tungstenkit.registry.base import Place
    from tungstenkit.watch import Watch


@dataclass(frozen=True)
class Verdict:
    """What is known of an image now."""

    name: str
    digest: str
    """Of its manifest."""
    platform: str
    rebuilt: str
    """The manifest's digest of what was built."""
    export: str | None
    """The digest of its export's manifest; None where an export's folder was given."""
    maker: Maker
    files: int
    """That it is built of, each by its hash."""
    size: int
    """Of them, in bytes."""
    read: int
    """In bytes, of layers and files that were read where they are kept."""
    difference: Difference
    signed: Signed | None = None
    """What the key has signed that was named; None where none was."""

    @property
    def word(self) -> Literal["proved", "rebuilds", "differs"]:
        """The verdict: it is proved only where what has built it is of a tungsten that is known."""
        if not self.difference.is_none:
            return "differs"
        return "proved" if self.maker.version is not None else "rebuilds"


def verify(
    reference: str,
    others: Sequence[str],
    watch: Watch,
    *,
    platform: str | None = None,
    rerun: bool = False,
    key: PublicKey | None = None,
) -> Verdict:
    """Build an image again, and compare.

    reference: a registry's, an image layout's folder, or an archive. others: where its export, inputs and signatures
    are sought besides. platform: which one of an index. rerun: whether recorded results of steps are made again, with
    the network. key: who must have signed it.

    Raises FetchError for what is damaged or nowhere, BuildError where nothing can be built, and SignatureError where it
    is not signed as it should be.
    """
    _bring_nix(others, watch)
    with started.scratch() as scratch, opened(reference, scratch) as place:
        with watch.working("reading the image's manifest"):
            image = image_at(place, scratch, platform)
            check_whole(place, image.digest)
            signed = signed_at([place, *_places(others)], image.digest, key) if key is not None else None
            found = evidence.find(image, place, others)
            export, digest = found.export(image, scratch)
        with watch.fetching("reading layers") as bar:
            bar.start(len(image.layers), image.size)
            image.check(bar.advance)
        system = _system_of(image, export.lock)
        part = part_of(export.lock, [system], this_system())
        results = frozenset(file.path for file in result_files(part)) if rerun else frozenset()
        with started.held(Path(store.place())):
            with watch.fetching("reading inputs") as bar:
                brought = evidence.bring(part, export, found, scratch, bar, results)
            with watch.building() as view:
                layout = rebuild(export, system, scratch, view, results)
            rebuilt = built_image(layout, scratch)
            difference = _with_files(compare(image, rebuilt, scratch), part)
        return Verdict(
            name=image.name,
            digest=image.digest,
            platform=system,
            rebuilt=rebuilt.digest,
            export=digest,
            maker=maker(export.folder),
            files=brought.files,
            size=brought.size,
            read=image.size + brought.read,
            difference=difference,
            signed=signed,
        )


def signed_at(places: Iterable[Place], digest: str, key: PublicKey) -> Signed:
    """What a key has signed of an image, in the first of some places where it has: a copy may come without signatures.

    digest: of its manifest. Raises UnsignedError where there is none, and SignatureError where one is damaged, or is of
    another bill of materials than a copy has.
    """
    bare: list[Place] = []
    lacking = None
    for one in places:
        try:
            return check_signed(one, digest, key, bare)
        except UnsignedError as problem:
            lacking = lacking or problem
            bare.append(one)
    assert lacking is not None  # there is one place at least
    raise lacking


def _places(others: Sequence[str]) -> Iterator[Place]:
    """Those of what was named that may have more than an export."""
    return (place_of(one) for one in others if not is_export(Path(one)))


def _system_of(image: Image, lock: Lock) -> str:
    """The platform that an image is for, by Nix's name. FetchError where its lock, or this machine, is of none."""
    system = image.system
    if system is None or system not in lock.platforms:
        raise FetchError(
            f"the export has no lock for {image.config.get('architecture')!s}, which the image is for",
            where=image.name,
            hint="--inputs names where the export of this image is kept",
        )
    if this_system() not in lock.tools:
        raise FetchError(
            f"the image's lock has no tools to build it on this machine, {this_system()}",
            where=image.name,
            hint=f"verify it on {' or '.join(lock.tools)}",
        )
    return system


def _bring_nix(others: Sequence[str], watch: Watch) -> None:
    """Have a Nix to start, as a build has it: of a folder that carries one, or of this machine's mirrors."""
    if not nix_program.current().is_absent:
        return
    # Few machines need it, and it is much to import.
    from tungstenkit.fetch.carry import archive_in
    from tungstenkit.fetch.machine_mirrors import find_mirrors
    from tungstenkit.fetch.own_nix import Origin, bring

    folders = (place_of(one) for one in others if Path(one).is_dir() and not is_export(Path(one)))
    carried = next((found for one in folders if (found := archive_in(one))), None)
    bring(lambda: Origin.carried(carried) if carried else Origin.of(find_mirrors()), watch)


def _with_files(difference: Difference, part: Lock) -> Difference:
    """The same, with the file of the lock that each path is of, where a package is named."""
    files = {
        deb.name: f"{deb.name}, {deb.file.rpartition('/')[2]}"
        for platform in part.platforms.values()
        for _, deb in platform.every_deb
    }

    def named(file: FileDifference) -> FileDifference:
        return replace(file, input=files.get(file.input, file.input))

    layers = tuple(replace(layer, files=tuple(map(named, layer.files))) for layer in difference.layers)
    return replace(difference, layers=layers)
