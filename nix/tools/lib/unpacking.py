"""Layers unpacked into one folder, as a container would show them.

What a later layer says of a path counts, and its whiteouts (OCI image specification, "Layer Filesystem Changeset") take
away what is below. Owners are not kept: programs that run in the folder see one user, whoever builds.
"""

from __future__ import annotations

import shutil
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contents import check_size, unpacked
from facts import WHITEOUT
from program import ToolError, read_json
from rootfs import OPAQUE

if TYPE_CHECKING:
    import gzip
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO


def unpack(layers: Iterable[Path], root: Path) -> None:
    """Unpack the blobs of layers, the lowest first, into an empty folder."""
    modes: dict[Path, int] = {}
    for layer in layers:
        # First: they speak of what is below the layer, wherever they stand in it.
        _take_away(read_json(layer / "files.json")["entries"], root)
        # A wheel's own streams make a blob of many gzip members, which tarfile's stream mode alone would not read.
        with opened(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                path = _inside(root, member.name)
                if not path.name.startswith(WHITEOUT):
                    _extract(tar, member, path, root)
                    if member.isdir():
                        # Nix forbids a build to set the other bits.
                        modes[path] = member.mode & 0o777
    # Only now: a folder that can't be written must be filled first.
    for path, mode in modes.items():
        # A later layer may have put a link into its place, or into that of what is above it.
        if path.is_dir() and not _through_link(path, root):
            path.chmod(mode)


def _through_link(path: Path, root: Path) -> bool:
    """Whether a path below the root, or what it goes through, is a link."""
    return path != root and (path.is_symlink() or _through_link(path.parent, root))


@contextmanager
def opened(layer: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The tar of a layer's blob; a base image's may be stored as it is, or compressed otherwise than ours."""
    with (
        (layer / "blob").open("rb") as file,
        unpacked(file, read_json(layer / "layer.json").get("zstd")) as tar,
    ):
        yield tar


def _take_away(entries: Iterable[dict[str, str]], root: Path) -> None:
    """Remove what the whiteouts among a layer's entries name."""
    for entry in entries:
        if entry["type"] != "whiteout":
            continue
        path = _inside(root, entry["path"])
        name = path.name[len(WHITEOUT) :]
        if _leads_out(path.parent, root):
            continue  # what is there is none of the layers'
        if path.name == OPAQUE:
            _empty(path.parent)
        elif name in ("", ".", ".."):
            raise ToolError(f"{entry['path']}: names nothing that can be taken away")
        else:
            _remove(path.with_name(name))


def _leads_out(folder: Path, root: Path) -> bool:
    """Whether links on the way to a folder lead out of the root: they are made for a root of their own."""
    return not folder.resolve().is_relative_to(root.resolve())


def _inside(root: Path, name: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ToolError(f"{name}: the path has a '..' in it")
    return root.joinpath(*parts)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    if path == root:
        return
    if member.isdir():
        _make_folder(path, root)
        return
    _make_folder(path.parent, root)
    _remove(path)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        source = _inside(root, member.linkname)
        if _leads_out(source.parent, root):
            raise ToolError(f"{member.name}: links to {member.linkname}, which is not in the layers")
        path.hardlink_to(source)
    elif member.isfile():
        check_size(member)
        content = tar.extractfile(member)
        assert content is not None  # it is a file
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        path.chmod(member.mode & 0o777)
    # Devices and pipes are the runtime's to make.


def _make_folder(path: Path, root: Path) -> None:
    """Make a folder, in the place of a link, too: a layer's own word on a path hides what is below it."""
    if path != root:
        _make_folder(path.parent, root)
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for entry in folder.iterdir():
            _remove(entry)
