#!/usr/bin/env python3
"""Make one image layer: `layer.py CONFIG.json OUT`.

CONFIG says what goes in, in order: Debian packages, wheels, trees, single files, what the layers below call
for, or the changes that a build step made to them, which stand alone in their layer. OUT becomes a folder with
the blob (a tar, gzipped, or by zstd where CONFIG's `compression` says so), `layer.json` (digests, as a manifest
needs them) and `files.json` (what is in it, as later layers and the image need it). OUT depends on CONFIG's
inputs alone; on a base image also on that, whose links and folders every path follows.
"""

from __future__ import annotations

import hashlib
import posixpath
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from accounts import with_user
from base_root import BaseRoot
from blob import GZIP, ZSTD, Blob, SplicedBlob, ZstdBlob, check_compressor, check_zstd
from bytecode import compile_sources
from changes import read_changes
from contents import Content, DiskFile, Region, Text, read_all, walk
from debfile import Deb
from dpkg import Installation, Unpacked
from maintscripts import Alternative, Diversion, alternatives, called, check_diversions, diverted
from placing import STATUS, Place
from program import Config, ToolError, read_json, run, write_json
from rootfs import Entry, Table, canonical, implied_directory, parents
from scriptrun import ScriptRun
from system import Lower, libraries
from tarstream import write_tar
from wheelfile import Scheme, Wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Layer:
    """A layer while its inputs are read."""

    def __init__(self, config: Config, work: Path) -> None:
        """Start a layer; `work` is an empty folder that must live until the layer is written."""
        self.table = Table()
        self.alternatives: list[Alternative] = []
        self.diversions: list[Diversion] = []
        self.not_compiled: list[str] = []
        self.is_changeset = False
        self.replaces = False
        """Whether it says of paths below it that they are gone."""
        self._installed: list[Unpacked] = []
        self._config = config
        self._work = work
        # One file for all packages, so that their number is not limited by that of open files.
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  it closes with the layer
        self._sources: dict[str, Entry] = {}
        self._base = BaseRoot(map(Path, config["base"])) if "base" in config else None

    def read_scripts(self, item: Config) -> None:
        """Read what a package's scripts do, which may concern the files of all inputs."""
        if item["kind"] != "deb":
            return
        deb = Deb(Path(item["path"]))
        self._script(deb, "preinst", deb.preinst)
        self._script(deb, "postinst", deb.postinst)

    def read(self, item: Config) -> None:
        """Add one input; every input's scripts must have been read."""
        kinds: dict[str, Callable[[Config], None]] = {
            "deb": self._deb,
            "wheel": self._wheel,
            "wheel-byte-code": self._wheel_byte_code,
            "tree": self._tree,
            "tar": self._tar,
            "files": self._files,
            "changes": self._changes,
            "accounts": self._accounts,
            "replaced": self._replaced,
            "placed": self._placed,
            "system": self._system,
            "dpkg": self._dpkg,
        }
        if item["kind"] not in kinds:
            raise ToolError(f"no input is of kind {item['kind']!r}; there are {', '.join(kinds)}")
        kinds[item["kind"]](item)

    def finish(self) -> list[Entry]:
        """All entries, in order, once every input is read."""
        self._compile()
        if self._base is not None and not self.is_changeset:
            self.table = self._base.placed(self.table)
        self.table.add_parents()
        return self.table.sorted()

    def _script(self, deb: Deb, kind: str, script: str) -> None:
        name = deb.package.name
        try:
            check_diversions([script], name)
            self.alternatives += alternatives(script, name) if kind == "postinst" else []
        except ToolError as unread:
            if "busybox" not in self._config:
                raise
            try:
                with tempfile.TemporaryFile(dir=self._work) as spool:
                    run = ScriptRun(
                        name, deb.package.architecture, deb.entries(spool), self._config["busybox"]
                    )
                    choices, diversions = run.calls(script, kind)
                self.alternatives += called(choices, name)
                self.diversions += diverted(diversions, name)
            except ToolError as error:
                raise ToolError(f"{unread}; and run apart from the rest, {error}") from None

    def _deb(self, item: Config) -> None:
        deb = Deb(Path(item["path"]))
        package = deb.package
        moved = {one.path: one.to for one in self.diversions if one.package != package.name}
        self.table.packages[package.name] = package
        certificates: list[Entry] = []
        python = self._config["python"]
        # Not where it is another Python's, of a base image.
        is_ours = python and not item.get("dpkg")
        libraries = (f"usr/lib/python{python['version']}/", "usr/lib/python3/") if is_ours else ()
        place = Place(item)
        paths: list[str] = []
        for entry in deb.entries(self._spool):
            paths.append(entry.path)
            if package.name == "ca-certificates" and entry.path.startswith(
                "usr/share/ca-certificates/mozilla/"
            ):
                certificates.append(entry)
            entry.path = moved.get(entry.path, entry.path)
            placed = place.entry(entry)
            if placed is None:
                continue
            self.table.add(placed)
            if (
                entry.content is not None
                and entry.path.endswith(".py")
                and entry.path.startswith(libraries or "\0")
            ):
                self._sources[placed.path] = placed
        if item.get("dpkg"):
            self._installed.append(Unpacked(deb, paths))
        else:
            # A file of its own where a base image may know a package of that name.
            name = package.name if place.is_root else f"tungsten-{package.name}"
            self._add_text(f"{STATUS}/{name}", deb.control, package.name)
            if place.is_root:
                self._add_text(f"{STATUS}/{name}.md5sums", deb.md5sums, package.name)
        if certificates:
            bundle = Text(_bundle(certificates))
            path = "etc/ssl/certs/ca-certificates.crt"
            placed = place.entry(Entry(path, "file", 0o644, package=package.name, content=bundle))
            if placed is not None:
                self.table.add(placed)

    def _wheel(self, item: Config) -> None:
        if item.get("splice") and len(self._config["inputs"]) > 1:
            raise ToolError(f"{item['file']}: a spliced wheel must be alone in its layer")
        scheme = _scheme(item)
        for entry in _installed(item, scheme):
            self.table.add(entry)
            if not item.get("splice"):
                self._add_source(entry, scheme)

    def _wheel_byte_code(self, item: Config) -> None:
        scheme = _scheme(item)
        for entry in _installed(item, scheme):
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

        replaced = {source / name for name in item.get("except", ())}
        for path in walk(source):
            if path in replaced:
                continue
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

    def _tar(self, item: Config) -> None:
        """A plain tar of a build step's, with modes that are meant; the owner is the configuration's."""
        kinds = {
            tarfile.REGTYPE: "file",
            tarfile.DIRTYPE: "dir",
            tarfile.SYMTYPE: "link",
            tarfile.LNKTYPE: "file",
        }
        # Open until the layer is written, since its members are read then.
        file = Path(item["path"]).open("rb")  # noqa: SIM115
        contents: dict[str, Content] = {}
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg():
                    contents[member.name] = Region(file, member.offset_data, member.size)
                elif member.islnk():
                    contents[member.name] = contents[member.linkname]
                self.table.add(
                    Entry(
                        canonical(member.name),
                        kinds[member.type],
                        member.mode,
                        item["uid"],
                        item["gid"],
                        member.linkname if member.issym() else "",
                        self._config["created-by"],
                        content=contents.get(member.name),
                    )
                )

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

    def _changes(self, item: Config) -> None:
        if len(self._config["inputs"]) > 1:
            raise ToolError(f"{item['path']}: changes must be alone in their layer")
        self.is_changeset = True
        for entry in read_changes(Path(item["path"]), self._spool):
            self.table.add(entry)

    def _accounts(self, _item: Config) -> None:
        assert self._base is not None  # without a base image, all accounts are files of ours
        texts = with_user(self._base.text("etc/passwd"), self._base.text("etc/group"))
        for path, text in zip(("etc/passwd", "etc/group"), texts):
            if text != self._base.text(path):
                self._add_text(path, text.encode("utf-8", "surrogateescape"), "accounts")
        if self._base.root.resolve("tmp") is None:
            self.table.add(implied_directory("tmp", "accounts"))

    def _dpkg(self, _item: Config) -> None:
        assert self._base is not None  # without a base image, nothing knows of dpkg
        self.replaces = True
        Installation(self._base, self._installed, self.table).install(self.alternatives, self.diversions)

    def _replaced(self, item: Config) -> None:
        assert self._base is not None
        if len(self._config["inputs"]) > 1:
            raise ToolError("what is taken away must be alone in its layer")
        self.is_changeset = True
        self.table = self._base.without(item["site-packages"], item["projects"])

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
        lower.check_diversions()
        made = [*lower.alias_links(), *lower.java_certificates()]
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
    config = read_json(config_path)
    kind = _kind(config)
    (check_zstd if kind is ZstdBlob else check_compressor)()
    with tempfile.TemporaryDirectory() as work:
        layer = Layer(config, Path(work))
        for item in config["inputs"]:
            layer.read_scripts(item)
        for item in config["inputs"]:
            layer.read(item)
        entries = layer.finish()
        out.mkdir()
        blob = kind(out / "blob")
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
            "media-type": ZSTD if kind is ZstdBlob else GZIP,
            "size": facts.size,
        },
    )


def _kind(config: Config) -> type[Blob | SplicedBlob]:
    """How a layer's blob is made."""
    # What does not compress is stored whatever is asked for: zstd would only take its time.
    if any(item.get("stored") for item in config["inputs"]):
        return SplicedBlob
    if config.get("compression") == "zstd":
        return ZstdBlob
    return SplicedBlob if any(item.get("splice") for item in config["inputs"]) else Blob


def _describe(layer: Layer, entries: list[Entry]) -> dict[str, object]:
    """files.json: what later layers and the image must know, so that nobody reads a package twice."""
    found = libraries(entries)
    return {
        "alternatives": [alternative.to_json() for alternative in layer.alternatives],
        **({"changes": True} if layer.is_changeset or layer.replaces else {}),
        **({"diversions": [vars(one) for one in layer.diversions]} if layer.diversions else {}),
        "entries": [entry.to_json() for entry in entries],
        "ld-so-conf": found.configuration,
        "libc-release": found.release,
        "not-compiled": layer.not_compiled,
        "packages": [layer.table.packages[name].to_json() for name in sorted(layer.table.packages)],
        "shared-objects": [one.to_json() for one in found.objects.values()],
    }


def _bundle(certificates: list[Entry]) -> bytes:
    """All certificates in one file, in order of name, as update-ca-certificates puts them together."""
    bundle = bytearray()
    for entry in sorted(certificates, key=lambda entry: entry.path):
        if entry.content is not None and entry.path.endswith(".crt"):
            data = read_all(entry.content)
            bundle += data if data.endswith(b"\n") else data + b"\n"
    return bytes(bundle)


def _installed(item: Config, scheme: Scheme) -> Iterator[Entry]:
    """What a wheel installs, but for the files in whose place another wheel, which it yields to, has its own."""
    taken = {
        entry.path
        for other in item.get("yields-to", ())
        for entry in Wheel(Path(other["path"]), other["file"]).install(scheme)
    }
    for entry in Wheel(Path(item["path"]), item["file"]).install(scheme):
        if entry.path not in taken:
            entry.override = bool(item.get("override"))
            yield entry


def _scheme(item: Config) -> Scheme:
    sys_prefix = canonical(item["sys-prefix"]) if "sys-prefix" in item else None
    return Scheme(
        canonical(item["prefix"]), canonical(item["site-packages"]), item["interpreter"], sys_prefix
    )


if __name__ == "__main__":
    run(make_layer, "CONFIG.json OUT")
