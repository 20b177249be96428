"""/etc/ld.so.cache, byte for byte as glibc's own `ldconfig -X` writes it in the finished root, without
running anything of the root.

Described from the behaviour of glibc 2.31, 2.36 and 2.41 as Debian builds them, on little-endian machines: the
new format alone, and since 2.33 strings merged by common endings, the generator and glibc-hwcaps extensions.
`Root` is the file system that it looks at.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facts import PLATFORMS
from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from elf import SharedObject
    from rootfs import Entry, Table

TRIPLETS: dict[str, str] = {names["debian"]: names["multiarch"] for names in PLATFORMS.values()}
"""By Debian's name of the architecture."""
# (architecture of ldconfig, ELF class, e_machine) -> flags of a library in the cache; any other library is
# not for this loader. glibc 2.36 has 0x0001 for a 32-bit library that needs no libc, which we don't look at.
_FLAGS = {
    ("amd64", 64, 62): 0x0303,
    ("amd64", 32, 62): 0x0803,
    ("amd64", 32, 3): 0x0003,
    ("arm64", 64, 183): 0x0A03,
}
# Subfolders that glibc before 2.37 searched as well, for processors with a capability. Debian's packages have
# left them.
_LEGACY_CAPABILITIES = {
    "amd64": {"tls", "sse2", "x86_64", "avx512_1", "i586", "i686", "haswell", "xeon_phi"},
    "arm64": {"tls", "atomics"},
}
_WITHOUT_LEGACY_CAPABILITIES = (2, 37)
_WITH_EXTENSIONS = (2, 33)
_HWCAPS = "glibc-hwcaps"
_HWCAP_EXTENSION = 1 << 62
_EXTENSION_MAGIC = 0xEAA42174
_LINKS = 40


class Root:
    """A finished root: the paths of all layers, with links followed as the kernel follows them."""

    def __init__(self, table: Table) -> None:
        """Take a view of a table, which must not change any more."""
        self._entries = table.entries
        self._children: dict[str, list[str]] = {}
        for path in sorted(self._entries):
            folder, name = posixpath.split(path)
            self._children.setdefault(folder, []).append(name)

    def resolve(self, path: str) -> str | None:
        """The real path behind a path, or None if there is nothing."""
        waiting = path.strip("/").split("/")[::-1] if path.strip("/") else []
        real = ""
        links = 0
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                real = posixpath.dirname(real)
                continue
            here = posixpath.join(real, name)
            entry = self._entries.get(here)
            if entry is None:
                return None
            if entry.kind != "link":
                real = here
                continue
            links += 1
            if links > _LINKS:
                return None
            if entry.target.startswith("/"):
                real = ""
            waiting += entry.target.split("/")[::-1]
        return real

    def kind(self, path: str) -> str:
        """What is at a path: "file", "dir", "link" (not followed), or "" for nothing."""
        entry = self._entries.get(path)
        return entry.kind if entry else ""

    def names(self, folder: str) -> list[str]:
        """The names in a folder given by its real path, sorted."""
        return self._children.get(folder, [])


@dataclass
class _Folder:
    name: str  # as the configuration gives it: this is what the cache has
    real: str
    capability: str | None


@dataclass
class _Library:
    soname: str
    path: str
    flags: int
    isa_level: int
    kernel: int
    capability: str | None


def ld_so_cache(
    root: Root,
    architecture: str,
    objects: Mapping[str, SharedObject],
    configuration: Mapping[str, str],
    release: str,
) -> bytes:
    """The cache for a root.

    `objects` has every shared object by real path, `configuration` the text of /etc/ld.so.conf and of what it
    includes by path, and `release` what glibc says of itself: `(Debian GLIBC 2.36-9+deb12u10) stable release
    version 2.36`.
    """
    if architecture not in TRIPLETS:
        raise ToolError(f"no ld.so.cache can be made for architecture {architecture}")
    version = _version(release)
    folders = _folders(
        root, configured_folders(root, configuration, "etc/ld.so.conf"), TRIPLETS[architecture]
    )
    if version < _WITHOUT_LEGACY_CAPABILITIES:
        _refuse_legacy_capabilities(root, folders, architecture)
    if version < _WITH_EXTENSIONS:
        folders = [folder for folder in folders if folder.capability is None]
    libraries = []
    for folder in folders:
        libraries += _libraries(root, folder, architecture, objects)
    # The loader searches by halves in this order; libraries of the same name stay in the order of their
    # folders.
    if version < _WITH_EXTENSIONS:
        libraries.sort(key=lambda library: -library.kernel)
    libraries.sort(key=lambda library: (-library.flags, library.capability is None, library.capability or ""))
    libraries.sort(key=lambda library: _name_key(library.soname), reverse=True)
    if version < _WITH_EXTENSIONS:
        return _encode_simply(libraries)
    capabilities = {folder.capability for folder in folders if folder.capability is not None}
    return _encode(libraries, capabilities, "ldconfig " + release)


def configured_folders(root: Root, configuration: Mapping[str, str], path: str) -> list[str]:
    """The folders that a configuration file names, those of included files in their place."""
    folders: list[str] = []
    for line in configuration.get(root.resolve(path) or path, "").split("\n"):
        text = line.partition("#")[0].strip()
        include = re.match(r"include[ \t]+(.*)", text)
        if include:
            for pattern in include.group(1).split():
                absolute = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), pattern)).lstrip(
                    "/"
                )
                folder, name = posixpath.split(absolute)
                real = root.resolve(folder)
                for match in fnmatch.filter(root.names(real) if real else [], name):
                    if not match.startswith("."):
                        folders += configured_folders(root, configuration, f"{folder}/{match}")
        elif "=" in text:
            raise ToolError(
                f"/{path}: library types ({text}) are of the past, and glibc versions differ in what they mean"
            )
        elif text and re.match(r"hwcap[ \t]", text, re.IGNORECASE) is None:
            folders.append(text)
    return folders


def _folders(root: Root, configured: list[str], triplet: str) -> list[_Folder]:
    standard = [f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib", "/usr/lib"]
    folders: list[_Folder] = []
    for name in [*configured, *standard]:
        path = name.strip().rstrip("/")
        real = root.resolve(path) if path else None
        if real is None or any(folder.real == real for folder in folders):
            continue
        folders.append(_Folder(path, real, None))
        hwcaps = root.resolve(f"{real}/{_HWCAPS}")
        for capability in root.names(hwcaps) if hwcaps else []:
            subfolder = root.resolve(f"{hwcaps}/{capability}")
            if (
                capability.startswith(".")
                or ":" in capability
                or subfolder is None
                or root.kind(subfolder) != "dir"
            ):
                continue
            if not any(folder.real == subfolder for folder in folders):
                folders.append(_Folder(f"{path}/{_HWCAPS}/{capability}", subfolder, capability))
    return folders


def _refuse_legacy_capabilities(root: Root, folders: list[_Folder], architecture: str) -> None:
    for folder in folders:
        for name in _LEGACY_CAPABILITIES[architecture] & set(root.names(folder.real)):
            if any(map(_is_library_name, root.names(f"{folder.real}/{name}"))):
                raise ToolError(
                    f"/{folder.real}/{name}: libraries for one kind of processor are not supported there"
                )


def _libraries(
    root: Root, folder: _Folder, architecture: str, objects: Mapping[str, SharedObject]
) -> list[_Library]:
    chosen: dict[str, tuple[str, bool, SharedObject]] = {}
    for name in root.names(folder.real):
        path = f"{folder.real}/{name}"
        is_link = root.kind(path) == "link"
        # ldconfig looks at every link below glibc-hwcaps.
        if not _is_library_name(name) and not (is_link and folder.capability is not None):
            continue
        found = objects.get(root.resolve(path) or "")
        if found is None or (architecture, found.bits, found.machine) not in _FLAGS:
            continue
        soname = found.soname or name
        if is_link and name != soname and not (name.endswith(".so") and soname.startswith(name)):
            is_link = False  # neither the link for the loader nor the one for the linker: as good as a file
        if is_link:
            soname = name
        known = chosen.get(soname)
        if (
            known is None
            or (known[1] and not is_link)
            or (known[1] == is_link and _name_key(known[0]) < _name_key(name))
        ):
            chosen[soname] = (name, is_link, found)
    return [
        # ldconfig makes the links that are missing and so names the link; with -X it names it all the same.
        _Library(
            soname,
            f"{folder.name}/{soname if folder.capability is None else name}",
            _FLAGS[architecture, found.bits, found.machine],
            found.isa_level,
            found.kernel,
            folder.capability,
        )
        for soname, (name, _, found) in chosen.items()
    ]


def _version(release: str) -> tuple[int, int]:
    match = re.search(r"version (\d+)\.(\d+)", release)
    if match is None:
        raise ToolError(f"cannot read the version of the C library: {release}")
    return int(match.group(1)), int(match.group(2))


def _is_library_name(name: str) -> bool:
    return name.startswith(("lib", "ld-", "ld.so.", "ld64.so.")) and ".so" in name


def _name_key(name: str) -> list[tuple[int, int]]:
    """Numbers compare as numbers, and come after everything else."""
    return [
        (1, int(number)) if number else (0, ord(other))
        for number, other in re.findall(r"([0-9]+)|(.)", name, re.DOTALL)
    ]


def _encode(libraries: list[_Library], capabilities: set[str], generator: str) -> bytes:
    used = sorted({library.capability for library in libraries if library.capability is not None})
    offsets, strings = _string_table(
        {library.soname for library in libraries} | {library.path for library in libraries} | capabilities
    )
    table = 48 + 24 * len(libraries)
    entries = bytearray()
    for library in libraries:
        hwcap = 0
        if library.capability is not None:
            hwcap = _HWCAP_EXTENSION | library.isa_level << 32 | used.index(library.capability)
        key, value = table + offsets[library.soname], table + offsets[library.path]
        entries += struct.pack("<iIIIQ", library.flags, key, value, 0, hwcap)
    end = table + len(strings)
    alignment = bytes(-end % 4)
    extension = end + len(alignment)
    header = _header(len(libraries), len(strings), extension)
    names = b"".join(struct.pack("<I", table + offsets[capability]) for capability in used)
    sections = 2 if used else 1
    body = extension + 8 + 16 * sections
    directory = struct.pack("<II", _EXTENSION_MAGIC, sections)
    directory += struct.pack("<IIII", 0, 0, body + len(names), len(generator))
    if used:
        directory += struct.pack("<IIII", 1, 0, body, len(names))
    return header + bytes(entries) + strings + alignment + directory + names + generator.encode()


def _encode_simply(libraries: list[_Library]) -> bytes:
    """As glibc before 2.33: each library's strings in full, no extensions, and the kernel that it asks for."""
    table = 48 + 24 * len(libraries)
    entries, strings = bytearray(), bytearray()
    for library in libraries:
        places = []
        for string in (library.soname, library.path):
            places.append(table + len(strings))
            strings += string.encode("utf-8", "surrogateescape") + b"\0"
        entries += struct.pack("<iIIIQ", library.flags, *places, library.kernel, 0)
    return _header(len(libraries), len(strings), 0) + bytes(entries + strings)


def _header(libraries: int, strings: int, extension: int) -> bytes:
    return struct.pack("<17s3sIIB3xI12x", b"glibc-ld.so.cache", b"1.1", libraries, strings, 2, extension)


def _string_table(strings: set[str]) -> tuple[dict[str, int], bytes]:
    """Offsets and bytes of zero-terminated strings, where one that ends another shares its bytes."""
    encoded = {string: string.encode("utf-8", "surrogateescape") for string in strings}
    # Backwards in order of the strings read backwards: what a string may be the end of stands right before
    # it.
    order = sorted(strings, key=lambda string: encoded[string][::-1], reverse=True)
    offsets: dict[str, int] = {}
    table = bytearray()
    previous, place = b"", 0
    for string in order:
        data = encoded[string]
        place = place + len(previous) - len(data) if previous.endswith(data) and previous else len(table)
        if place == len(table):
            table += data + b"\0"
        offsets[string] = place
        previous = data
    return offsets, bytes(table)


def is_configuration(entry: Entry) -> bool:
    """Whether a file is one that the standard /etc/ld.so.conf reads."""
    return entry.path == "etc/ld.so.conf" or posixpath.dirname(entry.path) == "etc/ld.so.conf.d"
