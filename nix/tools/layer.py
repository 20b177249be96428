#!/usr/bin/env python3
"""Make one image layer: `layer.py CONFIG.json OUT`.

CONFIG says what goes in, in order: Debian packages, wheels, trees, single files, or what the layers below
call for. OUT becomes a folder with the blob (a gzipped tar), `layer.json` (digests, as a manifest needs them)
and `files.json` (what is in it, as later layers and the image need it). OUT depends on CONFIG's inputs alone.
"""

from __future__ import annotations

import hashlib
import posixpath
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

from blob import MEDIA_TYPE, Blob, SplicedBlob, check_compressor
from bytecode import compile_sources
from contents import Content, DiskFile, Region, Text, read_all, walk
from debfile import Deb
from elf import SharedObject, shared_object
from ldcache import is_configuration
from maintscripts import Alternative, alternatives, check_diversions
from program import Config, ToolError, read_json, run, write_json
from rootfs import Entry, Table, canonical, parents
from system import Lower
from tarstream import write_tar
from wheelfile import Scheme, Wheel

if TYPE_CHECKING:
    from collections.abc import Callable


class Layer:
    """A layer while its inputs are read."""

    def __init__(self, config: Config, work: Path) -> None:
        """Start a layer; `work` is an empty folder that must live until the layer is written."""
        self.table = Table()
        self.alternatives: list[Alternative] = []
        self.not_compiled: list[str] = []
        self._config = config
        self._work = work
        # One file for all packages, so that their number is not limited by that of open files.
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  it closes with the layer
        self._sources: dict[str, Entry] = {}

    def read(self, item: Config) -> None:
        """Add one input."""
        kinds: dict[str, Callable[[Config], None]] = {
            "deb": self._deb,
            "wheel": self._wheel,
            "wheel-byte-code": self._wheel_byte_code,
            "tree": self._tree,
            "files": self._files,
            "placed": self._placed,
            "system": self._system,
        }
        if item["kind"] not in kinds:
            raise ToolError(f"no input is of kind {item['kind']!r}; there are {', '.join(kinds)}")
        kinds[item["kind"]](item)

    def finish(self) -> list[Entry]:
        """All entries, in order, once every input is read."""
        self._compile()
        self.table.add_parents()
        return self.table.sorted()

    def _deb(self, item: Config) -> None:
        deb = Deb(Path(item["path"]))
        package = deb.package
        check_diversions([deb.preinst, deb.postinst], package.name)
        self.alternatives += alternatives(deb.postinst, package.name)
        self.table.packages[package.name] = package
        certificates: list[Entry] = []
        python = self._config["python"]
        libraries = (f"usr/lib/python{python['version']}/", "usr/lib/python3/") if python else ()
        for entry in deb.entries(self._spool):
            self.table.add(entry)
            if (
                entry.content is not None
                and entry.path.endswith(".py")
                and entry.path.startswith(libraries or "\0")
            ):
                self._sources[entry.path] = entry
            if package.name == "ca-certificates" and entry.path.startswith(
                "usr/share/ca-certificates/mozilla/"
            ):
                certificates.append(entry)
        # Where scanners look for packages of images without dpkg's database.
        self._add_text(f"var/lib/dpkg/status.d/{package.name}", deb.control, package.name)
        self._add_text(f"var/lib/dpkg/status.d/{package.name}.md5sums", deb.md5sums, package.name)
        if certificates:
            self._add_text("etc/ssl/certs/ca-certificates.crt", _bundle(certificates), package.name)

    def _wheel(self, item: Config) -> None:
        if item.get("splice") and len(self._config["inputs"]) > 1:
            raise ToolError(f"{item['file']}: a spliced wheel must be alone in its layer")
        scheme = _scheme(item)
        for entry in Wheel(Path(item["path"]), item["file"]).install(scheme):
            entry.override = bool(item.get("override"))
            self.table.add(entry)
            if not item.get("splice"):
                self._add_source(entry, scheme)

    def _wheel_byte_code(self, item: Config) -> None:
        scheme = _scheme(item)
        for entry in Wheel(Path(item["path"]), item["file"]).install(scheme):
            entry.override = bool(item.get("override"))
            self._add_source(entry, scheme)

    def _tree(self, item: Config) -> None:
        source, destination = Path(item["path"]).resolve(), canonical(item["destination"])
        directory_mode = int(item.get("directory-mode", "0755"), 8)
        group_write = directory_mode & 0o020
        if not source.exists():
            raise ToolError(f"{source}: there is nothing to copy")

        def add(path: Path, kind: str, mode: int, target: str = "", content: Content | None = None) -> None:
            name = posixpath.normpath(posixpath.join(destination, path.relative_to(source).as_posix()))
            owner = (item.get("uid", 0), item.get("gid", 0))
            package = f"tree {destination}"
            override = bool(item.get("override"))
            self.table.add(
                Entry(name, kind, mode, *owner, target, package, override=override, content=content)
            )

        for path in walk(source):
            if path.is_symlink():
                target = path.readlink().as_posix()
                inside = posixpath.normpath(
                    posixpath.join(path.parent.relative_to(source).as_posix(), target)
                )
                if target.startswith("/") or inside.split("/")[0] == "..":
                    raise ToolError(f"{path}: the link leads out of the tree, to {target}")
                add(path, "link", 0o777, target)
            elif path.is_dir():
                add(path, "dir", directory_mode)
            elif path.is_file():
                mode = 0o755 if path.stat().st_mode & 0o111 else 0o644
                add(path, "file", mode | group_write, content=DiskFile(path))
            else:
                raise ToolError(f"{path}: neither a file, a folder nor a link")

    def _files(self, item: Config) -> None:
        for value in item["entries"]:
            kind = value["type"]
            if kind not in ("file", "dir", "link"):
                raise ToolError(f"/{value['path']}: no entry is of type {kind!r}")
            self.table.add(
                Entry(
                    canonical(value["path"]),
                    kind,
                    0o777
                    if kind == "link"
                    else int(value.get("mode", "0755" if kind == "dir" else "0644"), 8),
                    value.get("uid", 0),
                    value.get("gid", 0),
                    target=value["target"] if kind == "link" else "",
                    package="files",
                    override=bool(item.get("override")),
                    content=Text(value["text"].encode()) if kind == "file" else None,
                )
            )

    def _placed(self, item: Config) -> None:
        base, path = canonical(item["base"]), canonical(posixpath.join(item["base"], item["to"]))
        if not path.startswith(f"{base}/"):
            raise ToolError(f"/{path}: is not below /{base}")
        directory_mode = int(item["directory-mode"], 8)
        owner = (item["uid"], item["gid"])
        mode = (0o755 if item.get("executable") else 0o644) | directory_mode & 0o020
        content = DiskFile(Path(item["path"])) if "path" in item else Text(item["text"].encode())
        self.table.add(
            Entry(path, "file", mode, *owner, package="files", sha256=item.get("sha256", ""), content=content)
        )
        for folder in parents(path):
            if folder == base:
                break
            self.table.add(Entry(folder, "dir", directory_mode, *owner, package="files"))

    def _system(self, item: Config) -> None:
        lower = Lower([Path(path) for path in self._config["lower"]])
        made = lower.alias_links()
        if item["alternatives"]:
            made += lower.alternative_links()
        if item["ld-so-cache"]:
            made.append(lower.cache(item["architecture"]))
        for entry in [*made, *lower.true_directories()]:
            self.table.add(entry)

    def _add_text(self, path: str, data: bytes, package: str) -> None:
        self.table.add(Entry(path, "file", 0o644, package=package, content=Text(data)))

    def _add_source(self, entry: Entry, scheme: Scheme) -> None:
        if entry.path.endswith(".py") and entry.path.startswith(scheme.site_packages + "/"):
            self._sources[entry.path] = entry

    def _compile(self) -> None:
        python = self._config["python"]
        if not python:
            return
        # What another package has replaced must not be compiled in its place.
        entries = {path: self.table.entries.get(path, entry) for path, entry in self._sources.items()}
        sources = {path: entry.content for path, entry in entries.items() if entry.content is not None}
        compiled, self.not_compiled = compile_sources(
            python["command"], python["version"], sources, self._work
        )
        for path, (cache, content) in compiled.items():
            source = entries[path]
            digest = hashlib.sha256(read_all(content)).hexdigest()
            self.table.add(
                Entry(
                    cache,
                    "file",
                    0o644,
                    package=source.package,
                    override=source.override,
                    sha256=digest,
                    content=content,
                )
            )


def make_layer(config_path: Path, out: Path) -> None:
    """Make the layer that a configuration describes."""
    check_compressor()
    config = read_json(config_path)
    with tempfile.TemporaryDirectory() as work:
        layer = Layer(config, Path(work))
        for item in config["inputs"]:
            layer.read(item)
        entries = layer.finish()
        out.mkdir()
        splice = any(item.get("splice") or item.get("stored") for item in config["inputs"])
        blob: Blob | SplicedBlob = (SplicedBlob if splice else Blob)(out / "blob")
        write_tar(entries, blob)
        facts = blob.close()
        files = _describe(layer, entries)
    write_json(out / "files.json", files)
    write_json(
        out / "layer.json",
        {
            "created-by": config["created-by"],
            "diff-id": facts.diff_id,
            "digest": facts.digest,
            "media-type": MEDIA_TYPE,
            "size": facts.size,
        },
    )


def _describe(layer: Layer, entries: list[Entry]) -> dict[str, object]:
    """files.json: what later layers and the image must know, so that nobody reads a package twice."""
    objects: list[SharedObject] = []
    configuration: dict[str, str] = {}
    release = ""
    for entry in entries:
        if isinstance(entry.content, (Region, DiskFile)):
            found = shared_object(entry.path, entry.content.read_at)
            if found is not None:
                objects.append(found)
                if found.soname == "libc.so.6":
                    release = _libc_release(entry.content)
        if entry.content is not None and is_configuration(entry):
            configuration[entry.path] = read_all(entry.content).decode("utf-8", "surrogateescape")
    return {
        "alternatives": [alternative.to_json() for alternative in layer.alternatives],
        "entries": [entry.to_json() for entry in entries],
        "ld-so-conf": configuration,
        "libc-release": release,
        "not-compiled": layer.not_compiled,
        "packages": [layer.table.packages[name].to_json() for name in sorted(layer.table.packages)],
        "shared-objects": [found.to_json() for found in objects],
    }


def _libc_release(content: Content) -> str:
    """What a GNU C library says of itself, from its banner: `(Debian GLIBC 2.36-9) stable release version 2.36`."""
    text = read_all(content).partition(b"GNU C Library ")[2].partition(b".\n")[0]
    return text.decode("ascii", "replace")


def _bundle(certificates: list[Entry]) -> bytes:
    """All certificates in one file, in order of name, as update-ca-certificates puts them together."""
    bundle = bytearray()
    for entry in sorted(certificates, key=lambda entry: entry.path):
        if entry.content is not None and entry.path.endswith(".crt"):
            data = read_all(entry.content)
            bundle += data if data.endswith(b"\n") else data + b"\n"
    return bytes(bundle)


def _scheme(item: Config) -> Scheme:
    return Scheme(canonical(item["prefix"]), canonical(item["site-packages"]), item["interpreter"])


if __name__ == "__main__":
    run(make_layer, "CONFIG.json OUT")
