#!/usr/bin/env python3
"""Put an image layout into one tar: `archive.py LAYOUT OUT.tar`.

LAYOUT is the layout's folder, or a JSON file whose `layout` names it. The tar is an OCI archive and a `docker
save` archive at once. Links are followed, so the blobs themselves are in it.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contents import DiskFile, walk
from program import ToolError, read_json, run
from tarstream import header, padding


def make_archive(source: Path, out: Path) -> None:
    """Write the tar of a layout."""
    layout = (source if source.is_dir() else Path(read_json(source)["layout"])).resolve()
    if not (layout / "oci-layout").is_file():
        raise ToolError(f"{layout}: not an image layout")
    with out.open("xb") as file:
        for path in walk(layout):
            name = path.relative_to(layout).as_posix()
            if name == ".":
                continue
            if path.is_dir():
                file.write(header(name, tarfile.DIRTYPE, 0o755))
                continue
            content = DiskFile(path)
            file.write(header(name, tarfile.REGTYPE, 0o644, size=content.size))
            file.writelines(content.chunks())
            file.write(padding(content.size))
        file.write(bytes(2 * tarfile.BLOCKSIZE))
        file.write(padding(file.tell(), tarfile.RECORDSIZE))


if __name__ == "__main__":
    run(make_archive, "LAYOUT OUT.tar")
