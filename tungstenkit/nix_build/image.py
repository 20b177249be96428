"""An export becomes an image, or its root, or a development shell: `nix build` on its flake, and what that leaves."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import store
from tungstenkit.cache import cache_folder, replacing
from tungstenkit.data import NIX
from tungstenkit.nix_build.log import UnsaidError
from tungstenkit.nix_build.process import run_build
from tungstenkit.nix_program import for_a_shell
from tungstenkit.platforms import this_system
from tungstenkit.sdk.errors import BuildError, FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.nix_build.log import View


@dataclass(frozen=True)
class Image:
    """A built image, as a layout in the Nix store."""

    layout: Path
    digest: str
    """Of the manifest: `sha256:…`."""
    image_id: str
    """The digest of the config: it covers the uncompressed layers alone."""
    size: int
    """Of all blobs, in bytes."""


def build_image(export: Path, system: str, link: Path, view: View) -> Image:
    """Build an export's image for a platform on this machine, whose tools the export's lock has.

    link: becomes a link to the image's layout, which also keeps it from garbage collection.

    Raises BuildError with the end of the failed step's log.
    """
    for old in _more_links(link):
        old.unlink()
    layout = f"model-image-{system}-dir"
    both = [f"{layout}.unchecked", f"{layout}.requires"]
    # What is required of it, such as that its module can be imported, takes as long as to make it.
    try:
        _nix_build(export, both, link, view)
    except UnsaidError:
        # Where one of two has failed, and the other was given up for that, Nix 2.8 tells the error of either.
        with tempfile.TemporaryDirectory() as folder:
            _nix_build(export, both[1:], Path(folder) / "required", view)
        _nix_build(export, both, link, view)
    _take_layout(link)
    return image_at(link)


def image_at(link: Path) -> Image:
    """The image that a link leads to. Raises BuildError where code that ran in builds has changed it."""
    built = [str(one.resolve()) for one in (link, *_more_links(link))]
    _check_store(built, _note_of(link).with_suffix(".checked"))
    return read_layout(link.resolve())


def built_layout(link: Path, export: str) -> str | None:
    """The layout that an image's link leads to, if it was built of that very export, and the link still holds it.

    export: its digest (`export.flake.digest`). An image is a function of that, and of what Nix calls this machine.
    """
    note = _note_of(link)
    try:
        known, layout = note.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return layout if known == _key(export) and store.is_held(layout, link) else None


def note_built(link: Path, export: str) -> None:
    """Note for `built_layout` of what export an image's link leads to."""
    # The note is a help, and no more.
    with suppress(FetchError), replacing(_note_of(link)) as note:
        note.write_text(f"{_key(export)} {os.readlink(link)}\n", encoding="utf-8")  # noqa: PTH115 (as written)


def _note_of(link: Path) -> Path:
    """The file that says what an image was built of: with the user, where nothing that is somebody else's writes."""
    return cache_folder() / "images" / hashlib.sha256(os.fsencode(link.absolute())).hexdigest()


def _key(export: str) -> str:
    return f"{export}-{this_system()}"


def _more_links(link: Path) -> list[Path]:
    """The links that Nix makes beside one, to what is built at the same time."""
    return [one for one in link.parent.glob(f"{link.name}-*") if one.name[len(link.name) + 1 :].isdecimal()]


def _take_layout(link: Path) -> None:
    """Have a link lead to the layout, and those beside it to what was required: in which order, Nix does not say."""
    for other in _more_links(link):
        if (other / "index.json").is_file():
            # Nix knows both as roots already.
            beside = link.with_name(f"{link.name}.new")
            beside.unlink(missing_ok=True)
            beside.symlink_to(link.readlink())
            other.replace(link)
            beside.replace(other)


def _check_store(built: Sequence[str], stamp: Path) -> None:
    """BuildError where code that ran in builds has changed what an image is made of, or what it was checked in.

    It can't, by all that we know. Where one user builds and has the store, nothing but the mounts of a step keeps it
    from that, so it is looked at; elsewhere the store is another's. stamp: a file that says when which paths were;
    with the user, too.
    """
    if not store.is_ours():
        return
    # As files are dated.
    with tempfile.TemporaryFile() as fresh:
        began = os.fstat(fresh.fileno()).st_ctime
    paths = list(dict.fromkeys(path for one in built for path in store.built_from(one)))
    try:
        before = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    _refuse(store.changed(paths, before))
    with suppress(FetchError), replacing(stamp) as file:
        file.write_text(json.dumps(dict.fromkeys(paths, began)), encoding="utf-8")


def check_taken(derivation: str) -> None:
    """The same of all that a build of a derivation takes, whatever has become of it, by every byte: where it is not
    by our `nix/`, nothing has kept what ran there from changing it. Raises BuildError.
    """
    if store.is_ours():
        paths = store.taken_by(derivation)
        gone = store.missing(paths)
        _refuse(store.modified([path for path in paths if path not in gone]))


def _refuse(changed: Sequence[str]) -> None:
    if changed:
        raise BuildError(
            "what this image is made of was changed in the Nix store, perhaps by code that ran in a build",
            where=", ".join(changed),
            hint=f"`{for_a_shell('nix-store', '--verify', '--check-contents', '--repair')}` mends a store; build "
            "nothing on it before",
        )


def build_archive(export: Path, system: str, link: Path, view: View) -> None:
    """The same image as one file for `podman load` and `docker load`."""
    _nix_build(export, [f"model-image-{system}"], link, view)


def write_archive(image: Image, path: Path | None) -> None:
    """Write the bytes of `build_archive` to a file, whole or not at all, or to standard output. Raises BuildError."""
    program = [sys.executable, "-I", "-S", "-B", str(NIX / "tools" / "archive.py")]
    command = [*program, str(image.layout), "-"]
    # A link stays one: what it leads to is written.
    place = None if path is None else path.resolve()
    part = None
    try:
        if place is None:
            run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        else:
            # Nobody else's: neither another build's to the same file, nor a link that somebody has laid there.
            part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
            with part.open("xb") as file:
                run = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
        said = run.stderr.strip()
        if run.returncode != 0:
            # What is killed says nothing.
            said = said or f"what writes it has ended with {run.returncode}"
        elif part is not None and place is not None:
            part.replace(place)
    except OSError as problem:
        said = problem.strerror or str(problem)
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink()
    if said:
        raise BuildError(
            f"the archive is not written: {said.removeprefix('error: ')}",
            where="standard output" if path is None else str(path),
            hint="the image is built all the same",
        )


def build_root(export: Path, system: str, link: Path, view: View) -> Path:
    """The same image's root as folders that lie over each other (`nix/image/root-parts.nix`)."""
    _nix_build(export, [f"model-image-{system}.root"], link, view)
    return link.resolve()


def build_shell(export: Path, link: Path, view: View) -> None:
    """The development shell's folder; link: becomes a link to it, and keeps it."""
    _nix_build(export, ["shell"], link, view)


_EXPORTED = "(import ./nix).exported ./."
"""The outputs of an export, as its `flake.nix` has them."""


def _nix_build(export: Path, attributes: Sequence[str], link: Path, view: View) -> None:
    arguments = [
        # Not as a flake: Nix would copy all of an export into the store at every change, and most of it never changes.
        # Nothing else is looked at here either.
        *("--impure", "--option", "restrict-eval", "true", "-I", "export=."),
        *("--expr", _EXPORTED, *(f"packages.{this_system()}.{attribute}" for attribute in attributes)),
        *("--out-link", str(link.absolute())),
    ]
    run_build(arguments, view, export)


def read_layout(layout: Path) -> Image:
    """Describe an OCI image layout."""
    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    (descriptor,) = index["manifests"]
    manifest = json.loads(blob(layout, descriptor["digest"]).read_text(encoding="utf-8"))
    size = (
        descriptor["size"] + manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
    )
    return Image(layout=layout, digest=descriptor["digest"], image_id=manifest["config"]["digest"], size=size)


def blob(layout: Path, digest: str) -> Path:
    """Where a layout has what is of a digest."""
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value
