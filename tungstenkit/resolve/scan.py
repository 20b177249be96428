"""The ELF files of wheels and Debian packages, and where they will stand in an image.

A scan is a pure function of an archive's bytes, so it is kept in the user's cache under their sha256: a wheel is
read once, whatever locks name it. Nothing is unpacked to be read: of a wheel's big member only what `read_elf` asks for
is in memory, and of Debian's packages, which can only be read from front to back, one big member at a time.
"""

from __future__ import annotations

import io
import posixpath
import re
import threading
import zipfile
from contextlib import nullcontext
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tungstenkit.cache import keep, kept
from tungstenkit.debian.deb import open_files
from tungstenkit.document import Document
from tungstenkit.fetch.archives import DAMAGED
from tungstenkit.resolve.elf import MAGIC, Elf, read_elf
from tungstenkit.sdk.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

_FORMAT = "2"  # of the cached files: raise it whenever a scan would find something else
_IN_MEMORY = 8 << 20  # several are read at a time
_ONE_BIG = threading.Lock()
# What a wheel may unpack to, as in `nix/tools/lib/wheelfile.py`: so much in any case, and so many times its own size.
_ALWAYS_FINE, _MOST_INFLATED = 256 << 20, 200
_MOST_TEXT = 32 << 20  # of a file that is read whole; more is no code that a person wrote
# What a damaged, encrypted or oddly packed archive leads to.
_ALIASES = re.compile(r"^(bin|sbin|lib|lib32|lib64|libx32)/")
_PROGRAM_FOLDERS = {"bin", "sbin", "scripts", "binaries"}
_NO_ELF = (".py", ".pyi")  # by the hundred in wheels; no loader looks into them
_MODULE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\.cpython-\d+[^.]*|\.abi3)?)\.so")

SITE = "{site}"
"""Stands for the model's site-packages in the paths of a wheel's files; `{prefix}` for what lies above."""


class ScannedFile(Document):
    """An ELF file and its place."""

    path: str
    """In the image, without a leading slash; a wheel's begins with `{site}` or `{prefix}`."""
    elf: Elf
    is_root: bool
    """Python can import it, or a person or program can start it: what it needs, the image needs."""
    is_loaded: bool = False
    """It is no root, and the package's own Python code names it, as code does that loads it."""


class Scan(Document):
    """What was found in one wheel or Debian package."""

    files: tuple[ScannedFile, ...]
    links: dict[str, str]
    """Symbolic links to shared objects: path to path, both as in `ScannedFile`."""
    requires: tuple[str, ...]
    """The projects that a wheel's metadata names, extras included (PEP 503 names); empty for a Debian package."""


def scan_wheel(path: Path) -> Scan:
    """Read a wheel (PEP 427). Raises FetchError where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            whole, size = sum(info.file_size for info in infos), path.stat().st_size
            if whole > max(_ALWAYS_FINE, _MOST_INFLATED * size):
                raise FetchError(
                    f"it unpacks to {whole} bytes from {size}, which no wheel does", where=path.name
                )
            found: dict[str, Elf] = {}
            for info in infos:
                if not info.filename.endswith(_NO_ELF):
                    with archive.open(info) as member:
                        if elf := _elf_of_wheel(member, info.file_size):
                            found[info.filename] = elf
            # What is a root is one, whoever loads it.
            others = [name for name, elf in found.items() if not _is_root(name, elf)]
            loaded = _named_in_code(archive, infos, others)
            requires = _requires(archive, infos)
    except DAMAGED as problem:
        raise FetchError(f"not a wheel: {problem}", where=path.name) from None
    return Scan(
        files=tuple(
            ScannedFile(
                path=_installed(name),
                elf=elf,
                is_root=_is_root(name, elf),
                is_loaded=name in loaded,
            )
            for name, elf in sorted(found.items())
        ),
        links={},
        requires=requires,
    )


def scan_deb(path: Path) -> Scan:
    """Read a Debian package. Raises FetchError where it is none."""
    files: list[ScannedFile] = []
    links: dict[str, str] = {}
    with path.open("rb") as file, open_files(file, path.name) as tar:
        for member in tar:
            name = _canonical(member.name)
            if member.issym() and ".so" in posixpath.basename(name):
                links[name] = _canonical(posixpath.join(posixpath.dirname(name), member.linkname))
            elif member.islnk() and ".so" in posixpath.basename(name):
                links[name] = _canonical(member.linkname)
            elif member.issparse():
                raise FetchError(f"{name} is sparse, which no Debian package's file is", where=path.name)
            elif member.isreg() and (content := tar.extractfile(member)):
                with _ONE_BIG if member.size > _IN_MEMORY else nullcontext():
                    elf = _elf_of_deb(content)
                if elf:
                    files.append(ScannedFile(path=name, elf=elf, is_root=_is_root(name, elf)))
    return Scan(files=tuple(sorted(files, key=lambda f: f.path)), links=links, requires=())


def kept_scan(sha256: str, cache: Path) -> Scan | None:
    """The scan of the archive with this sha256, if it was made before."""
    path = kept(cache / "elf", f"{sha256}.{_FORMAT}.json")
    return Scan.model_validate_json(path.read_bytes()) if path else None


def keep_scan(scan: Scan, sha256: str, cache: Path) -> None:
    """Keep a scan for `kept_scan`. Raises FetchError where it can't be written."""
    text = scan.model_dump_json(by_alias=True)

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    keep(cache / "elf", f"{sha256}.{_FORMAT}.json", write)


def _elf_of_wheel(member: IO[bytes], size: int) -> Elf | None:
    head = member.read(len(MAGIC))
    if head != MAGIC:
        return None
    # A member of an archive goes back by beginning again.
    return read_elf(member if size > _IN_MEMORY else io.BytesIO(head + member.read()))


def _elf_of_deb(member: IO[bytes]) -> Elf | None:
    head = member.read(len(MAGIC))
    return read_elf(io.BytesIO(head + member.read())) if head == MAGIC else None


def _installed(name: str) -> str:
    """Where a member of a wheel is installed (PEP 427, "Installing a wheel")."""
    top, _, rest = name.partition("/")
    key, _, below = rest.partition("/")
    if not top.endswith(".data"):
        return f"{SITE}/{name}"
    return {"data": f"{{prefix}}/{below}", "scripts": f"{{prefix}}/bin/{below}"}.get(key, f"{SITE}/{below}")


def _is_root(name: str, elf: Elf) -> bool:
    return _is_module(name, elf) or _is_program(name, elf)


def _is_module(name: str, elf: Elf) -> bool:
    """Whether `import` would take it: a module's file name, and the symbol of that name (PEP 489)."""
    match = _MODULE.fullmatch(posixpath.basename(name))
    return match is not None and match[1] in elf.modules


def _is_program(name: str, elf: Elf) -> bool:
    folder = posixpath.basename(posixpath.dirname(name))
    return elf.is_program and folder in _PROGRAM_FOLDERS


def _canonical(name: str) -> str:
    """A Debian path as it is below a merged /usr (Debian policy, 9.1.1)."""
    return _ALIASES.sub(r"usr/\1/", posixpath.normpath(name).lstrip("./"))


def _named_in_code(
    archive: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo], found: Iterable[str]
) -> set[str]:
    """The libraries whose names the wheel's Python code holds: that is how ctypes and cffi are told."""
    stems = {}
    for name in found:
        stem = posixpath.basename(name).partition(".so")[0]
        stems[stem.removeprefix("lib").encode()] = name
    if not stems:
        return set()
    choice = b"|".join(re.escape(stem) for stem in sorted(stems, key=len, reverse=True))
    pattern = re.compile(rb"""["'/](?:lib)?(%s)(?:\.so[.0-9]*)?["']""" % choice)
    named: set[bytes] = set()
    for info in infos:
        if info.filename.endswith(".py"):
            named.update(pattern.findall(_text(archive, info)))
    return {name for stem, name in stems.items() if stem in named}


def _requires(archive: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo]) -> tuple[str, ...]:
    metadata = next((i for i in infos if re.fullmatch(r"[^/]+\.dist-info/METADATA", i.filename)), None)
    if metadata is None:
        return ()
    text = _text(archive, metadata).decode("utf-8", "replace")
    return tuple(sorted(set(_projects(HeaderParser().parsestr(text).get_all("Requires-Dist", [])))))


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        return member.read(_MOST_TEXT)


def _projects(requirements: Iterable[str]) -> Iterator[str]:
    for text in requirements:
        try:
            yield canonicalize_name(Requirement(text).name)
        except InvalidRequirement:
            continue  # what old metadata holds; it says nothing about libraries then
