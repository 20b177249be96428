#!/usr/bin/env python3
"""Put an image layout into one tar: `archive.py LAYOUT OUT.tar`, or `-` for standard output.

LAYOUT is the layout's folder, or a JSON file whose `layout` names it. The tar is an OCI archive and a `docker
save` archive at once. Links are followed, so the blobs themselves are in it.
"""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from contents import DiskFile, walk
from program import ToolError, read_json, run
from tarstream import header, padding

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_archive(source: Path, out: Path) -> None:
    """Write the tar of a layout to a file."""
    with out.open("xb") as file:
        file.writelines(archive(source))


def archive(source: Path) -> Iterator[bytes]:
    """The tar of a layout, piece by piece."""
    layout = (source if source.is_dir() else Path(read_json(source)["layout"])).resolve()
    if not (layout / "oci-layout").is_file():
        raise ToolError(f"{layout}: not an image layout")
    size = 0
    for part in _members(layout):
        size += len(part)
        yield part
    end = bytes(2 * tarfile.BLOCKSIZE)
    yield end
    yield padding(size + len(end), tarfile.RECORDSIZE)


def _members(layout: Path) -> Iterator[bytes]:
    for path in walk(layout):
        name = path.relative_to(layout).as_posix()
        if name == ".":
            continue
        if path.is_dir():
            yield header(name, tarfile.DIRTYPE, 0o755)
            continue
        content = DiskFile(path)
        yield header(name, tarfile.REGTYPE, 0o644, size=content.size)
        yield from content.chunks()
        yield padding(content.size)


def stream_archive(source: Path) -> NoReturn:
    """Write the tar of a layout to standard output, and exit: 1 where that is closed before the end."""
    try:
        sys.stdout.buffer.writelines(archive(source))
        sys.stdout.buffer.flush()
    except (ToolError, OSError) as error:
        print(f"error: the image is not written whole: {error}", file=sys.stderr)
        # What is left in the buffer has nowhere to go.
        os._exit(1)
    raise SystemExit(0)


if __name__ == "__main__":
    if sys.argv[2:] == ["-"]:
        stream_archive(Path(sys.argv[1]))
    run(make_archive, "LAYOUT OUT.tar")
