#!/usr/bin/env python3
"""Take over a layer of a base image as it is: `import_layer.py CONFIG.json OUT`.

CONFIG names the blob and what its manifest says of it. OUT becomes a folder as `layer.py` makes it, whose blob is a
link to the given one; `files.json` says what the layer changes of those below it, and `found` what is in the few
files that somebody will ask about. The diff ID is checked. `zstd` is the command of that program, for a layer that
needs it.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import tarfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from base_root import MODULES, PACKAGE
from contents import check_size, unpacked
from facts import WHITEOUT
from program import ToolError, read_json, run, write_json
from rootfs import OPAQUE, Entry

if TYPE_CHECKING:
    import gzip
    from collections.abc import Iterator, Mapping

# Docker's names of what OCI's manifests have their own for (OCI image specification, "Compatibility Matrix").
_TAR = "application/vnd.oci.image.layer.v1.tar"
_MEDIA_TYPES = {
    _TAR: _TAR,
    f"{_TAR}+gzip": f"{_TAR}+gzip",
    f"{_TAR}+zstd": f"{_TAR}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": _TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_TAR}+gzip",
}
_TEXTS = re.compile(
    r"etc/(passwd|group|os-release|ld\.so\.conf|ld\.so\.conf\.d/[^/]+\.conf)|usr/lib/os-release"
    r"|var/lib/dpkg/(status|diversions|alternatives/[^/]+|info/[^/]+\.list)"
)
_CONFIGURATION = re.compile(r"etc/.+")
_RECORD = re.compile(r"(.*/)?(site|dist)-packages/[^/]+\.dist-info/RECORD")
_C_LIBRARY = re.compile(r"(.*/)?libc(\.so\.6|-2\.\d+\.so)")
_PYTHON = re.compile(r"(.*/)?(bin/python3\.\d+|libpython3\.\d+m?\.so[.0-9]*)")
_SITE = re.compile(r"(.*/)?python3\.\d+/site\.py")
_LARGEST = 256 << 20  # bytes of a file that is looked into: more is none of these
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError)


def import_layer(config_path: Path, out: Path) -> None:
    """Take over the layer that a configuration describes."""
    config = read_json(config_path)
    if config["media-type"] not in _MEDIA_TYPES:
        raise ToolError(f"{config['digest']}: a layer of type {config['media-type']} can't be read")
    blob = Path(config["blob"])
    found: dict[str, Mapping[str, object]] = {}
    entries: list[Entry] = []
    with blob.open("rb") as file:
        try:
            with unpacked(file, config.get("zstd")) as tar, _Hashed(tar) as stream:
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    for entry, content in _members(archive):
                        entries.append(entry)
                        found.pop(entry.path, None)
                        if content is not None and (facts := _look_into(entry.path, content)):
                            found[entry.path] = facts
                while stream.read(1 << 20):
                    pass  # what stands behind the end of the archive is hashed, too
                diff_id = f"sha256:{stream.digest.hexdigest()}"
        except (ToolError, *_DAMAGED) as error:
            raise ToolError(f"{config['digest']}: the layer can't be read: {error}") from None
    if diff_id != config["diff-id"]:
        raise ToolError(
            f"{config['digest']}: its content is {diff_id}, and the image says {config['diff-id']}"
        )
    out.mkdir()
    (out / "blob").symlink_to(blob)
    write_json(
        out / "files.json",
        {
            "changes": True,
            "entries": [entry.to_json() for entry in entries],
            "found": found,
            "packages": [],
            "alternatives": [],
            "ld-so-conf": {},
            "libc-release": "",
            "shared-objects": [],
        },
    )
    write_json(
        out / "layer.json",
        {
            "created-by": config["created-by"],
            "diff-id": diff_id,
            "digest": config["digest"],
            "media-type": _MEDIA_TYPES[config["media-type"]],
            "size": config["size"],
            # For whoever unpacks it.
            **({"zstd": config["zstd"]} if "zstd" in config else {}),
        },
    )


def _members(archive: tarfile.TarFile) -> Iterator[tuple[Entry, IO[bytes] | None]]:
    """The entries of a layer's archive, and of files that may be worth a look the content, to be read at once."""
    for info in archive:
        path = "/".join(part for part in info.name.split("/") if part not in ("", "."))
        if ".." in path.split("/"):
            raise ValueError(f"{info.name}: the path has a '..' in it")
        name = path.rpartition("/")[2]
        # What older engines noted for themselves.
        if not path or (name.startswith(WHITEOUT * 2) and name != OPAQUE):
            continue
        check_size(info)
        common = (info.mode & 0o7777, info.uid, info.gid)
        if info.isdir():
            yield Entry(path, "dir", *common, package=PACKAGE), None
        elif info.issym():
            yield Entry(path, "link", 0o777, info.uid, info.gid, target=info.linkname, package=PACKAGE), None
        elif name.startswith(WHITEOUT):
            yield Entry(path, "whiteout", *common, package=PACKAGE), None
        else:
            # To what lies above, devices and pipes are files; their bytes are the blob's business.
            content = archive.extractfile(info) if info.isreg() and info.size <= _LARGEST else None
            yield Entry(path, "file", *common, package=PACKAGE), content


def _look_into(path: str, content: IO[bytes]) -> Mapping[str, object]:
    if _TEXTS.fullmatch(path) or _RECORD.fullmatch(path):
        data = content.read()
        text = {"text": data.decode("utf-8", "surrogateescape")}
        return text | _fingerprint(data) if _CONFIGURATION.fullmatch(path) else text
    if _CONFIGURATION.fullmatch(path):
        return _fingerprint(content.read())
    if _C_LIBRARY.fullmatch(path):
        banner = content.read().partition(b"GNU C Library ")[2].partition(b".\n")[0]
        return {"release": banner.decode("ascii", "replace")} if banner else {}
    if _PYTHON.fullmatch(path):
        data = content.read()
        return {"modules": [name for name in MODULES if f"PyInit_{name}\0".encode() in data]}
    if _SITE.fullmatch(path):
        return {"is-debians": b"dist-packages" in content.read()}
    return {}


def _fingerprint(data: bytes) -> dict[str, str]:
    """What dpkg knows a configuration file by; it protects nothing."""
    return {"md5": hashlib.md5(data, usedforsecurity=False).hexdigest()}


class _Hashed(io.RawIOBase):
    """A stream that is hashed as it is read."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


if __name__ == "__main__":
    run(import_layer, "CONFIG.json OUT")
