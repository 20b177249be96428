"""Installing a wheel (PEP 427, the binary distribution format) as entries of a layer.

What the wheel's RECORD says of a member is checked when the member is read. Not every RECORD says something of each:
such wheels are taken, as pip takes them, since whoever names a wheel here names the hash of the whole. What an
installer writes is written here: shebangs, scripts for entry points, INSTALLER, and a RECORD of what was
installed (without byte-code, which the specification allows).
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import posixpath
import re
import stat
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from contents import CHUNK, ZIP_ERRORS, Text, WheelMember, read_all
from facts import WHITEOUT
from program import ToolError
from rootfs import Entry, parents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ALGORITHMS = ("sha256", "sha384", "sha512")  # PEP 427: sha256 or better
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
# What a wheel may unpack to: so much in any case, and so many times its own size.
_ALWAYS_FINE, _MOST_INFLATED = 256 << 20, 200
_MOST_TEXT = 32 << 20  # bytes of what describes a wheel; the largest RECORD known has 2 MB
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_NAME = 255  # bytes: Linux's NAME_MAX
_DOS_FOLDER = 0x10  # of a member's attributes, where a zip archive was made on Windows
# A file's name; one of dots alone is a folder's, and `.wh.` takes another file away (rootfs.py).
_COMMAND = re.compile(r"(?!\.{1,2}$)(?!\.wh\.)[^/\s\x00-\x1f\x7f]+")
_SCRIPT = """#!{interpreter}
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


@dataclass
class Scheme:
    """Where a wheel goes: paths without a leading slash, but for `interpreter`, which shebangs name.

    sys_prefix: what Python calls its prefix, where that is another: Debian's installs into `/usr/local`, and looks for
    data in `/usr` alone. So data files are there, too, as they are in a virtual environment.
    """

    prefix: str
    site_packages: str
    interpreter: str
    sys_prefix: str | None = None

    def base(self, key: str, distribution: str) -> str:
        """The folder for one key of the wheel's .data folder."""
        if key == "headers":
            version = re.search(r"python\d+\.\d+", self.site_packages)
            return f"{self.prefix}/include/{version.group() if version else 'python3'}/{distribution}"
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "scripts": f"{self.prefix}/bin",
            "data": self.prefix,
        }[key]


@dataclass
class _Row:
    """What RECORD says of a file; what it does not say, or not well, is empty."""

    name: str
    algorithm: str = ""
    digest: bytes = b""
    size: int | None = None

    @staticmethod
    def parsed(name: str, field: str = "", size: str = "", *_more: str) -> _Row:
        """A row as it is written."""
        row = _Row(name, size=int(size) if re.fullmatch(r"[0-9]{1,20}", size) else None)
        algorithm, _, encoded = field.partition("=")
        if algorithm in _ALGORITHMS:
            try:
                row.digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
                row.algorithm = algorithm
            except ValueError:  # what is no base64, or no ASCII
                pass
        return row


class Wheel:
    """An opened wheel. `name` is its file name, by which errors and entries know it; `notes` what is odd about it."""

    def __init__(self, path: Path, name: str) -> None:
        """Open a wheel and read its RECORD; `ToolError` if it is no sound wheel."""
        self.name = name
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise
        except ZIP_ERRORS as error:
            raise ToolError(f"{name}: not a wheel: {error}") from None
        self.notes: list[str] = []
        infos = [info for info in self._archive.infolist() if not _is_folder(info)]
        for info in infos:
            self._check_member(info)
        whole, size = sum(info.file_size for info in infos), path.stat().st_size
        if whole > max(_ALWAYS_FINE, _MOST_INFLATED * size):
            raise ToolError(f"{name}: unpacks to {whole} bytes from {size}, which no wheel does")
        names = [info.filename for info in infos]
        for member, times in Counter(names).items():
            if times > 1:
                raise self._error(member, "is in the wheel twice")
        for member in names:
            for folder in set(parents(member)).intersection(names):
                raise self._error(
                    folder, f"is a file, and a folder with {posixpath.relpath(member, folder)} in it"
                )
        self._distribution, self._info, others = self._dist_info(names)
        self._record = self._read_record()
        # Its own row, and what is left out, never counted.
        own = [
            info
            for info in infos
            if not self._is_record(info.filename) and info.filename.partition("/")[0] not in others
        ]
        wrong = [info.filename for info in own if self._row(info).size not in (None, info.file_size)]
        if wrong:
            self.notes.append(
                f"its RECORD gives {len(wrong)} of its {len(infos)} files another size, such as {wrong[0]}: it was "
                "written before they were, and nothing of it is believed"
            )
            self._record = {}
        self._unstated: list[str] = []
        self._renamed: list[str] = []
        self._members = {info.filename: self._member(info) for info in own}
        if self._unstated and not wrong:
            self.notes.append(
                f"its RECORD does not say what {len(self._unstated)} of its {len(infos)} files are, such as "
                f"{self._unstated[0]}"
            )
        if self._renamed:
            self.notes.append(
                f"its RECORD writes the names of {len(self._renamed)} of its {len(infos)} files otherwise, such as "
                f"{self._renamed[0]}"
            )
        self._check_version()

    def install(self, scheme: Scheme) -> Iterator[Entry]:
        """Every file of the installed wheel, but for byte-code."""
        record: list[tuple[str, str, int]] = []
        for name, member in self._members.items():
            # Byte-code that a wheel ships was made for another path and time; without its source nothing
            # would import it.
            if name == f"{self._info}/INSTALLER" or posixpath.dirname(name).endswith("__pycache__"):
                continue
            entry = self._entry(name, member, scheme)
            record.append((entry.path, *self._recorded(entry, name)))
            yield entry
            if (second := self._second_place(name, scheme)) is not None:
                yield replace(entry, path=second)  # the same content, so a link to it
        made = [
            self._made(f"{scheme.prefix}/bin/{command}", _script(target, scheme.interpreter), 0o755)
            for command, target in self._entry_points()
        ]
        made.append(self._made(f"{scheme.site_packages}/{self._info}/INSTALLER", "tungsten\n"))
        for entry in made:
            assert isinstance(entry.content, Text)
            record.append((entry.path, _hash(entry.content.data), entry.content.size))
        yield from made
        yield self._made(f"{scheme.site_packages}/{self._info}/RECORD", self._new_record(record, scheme))

    def _entry(self, name: str, member: WheelMember, scheme: Scheme) -> Entry:
        path = self._destination(name, scheme)
        # Tools that make wheels on other systems leave the Unix mode out: then it is an ordinary file.
        executable = bool(member.info.external_attr >> 16 & 0o111)
        digest = member.digest.hex() if member.algorithm == "sha256" else ""
        entry = Entry(
            path, "file", 0o755 if executable else 0o644, package=self.name, sha256=digest, content=member
        )
        if path.startswith(f"{scheme.prefix}/bin/") and name.split("/")[1:2] == ["scripts"]:
            entry.mode = 0o755
            with_shebang = _with_shebang(member, scheme.interpreter)
            if with_shebang is not None:
                entry.content = Text(with_shebang)
                entry.sha256 = hashlib.sha256(with_shebang).hexdigest()
        return entry

    def _destination(self, name: str, scheme: Scheme) -> str:
        top, _, rest = name.partition("/")
        if not top.endswith(".data") or not rest:
            return f"{scheme.site_packages}/{name}"
        key, _, rest = rest.partition("/")
        try:
            base = scheme.base(key, self._distribution)
        except KeyError:
            raise self._error(name, f"no installer knows what .data/{key} is") from None
        return f"{base}/{rest}"

    def _second_place(self, name: str, scheme: Scheme) -> str | None:
        """Where a data file is, too; not programs, which PATH finds, nor libraries, which a loader would."""
        top, _, rest = name.partition("/")
        key, _, rest = rest.partition("/")
        is_data = top.endswith(".data") and key == "data" and rest.startswith(("share/", "etc/"))
        return f"{scheme.sys_prefix}/{rest}" if is_data and scheme.sys_prefix is not None else None

    def _recorded(self, entry: Entry, name: str) -> tuple[str, int]:
        if isinstance(entry.content, Text):
            return _hash(entry.content.data), entry.content.size
        member = self._members[name]
        return f"{member.algorithm}={_base64(member.digest)}", member.size

    def _new_record(self, rows: list[tuple[str, str, int]], scheme: Scheme) -> str:
        own = f"{self._info}/RECORD"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        lines = [
            (posixpath.relpath(path, scheme.site_packages), digest, str(size)) for path, digest, size in rows
        ]
        writer.writerows(sorted([*lines, (own, "", "")]))
        return text.getvalue()

    def _made(self, path: str, text: str, mode: int = 0o644) -> Entry:
        data = text.encode()
        return Entry(
            path, "file", mode, package=self.name, sha256=hashlib.sha256(data).hexdigest(), content=Text(data)
        )

    def _entry_points(self) -> list[tuple[str, str]]:
        """Commands and what they call, in order of name."""
        member = self._members.get(f"{self._info}/entry_points.txt")
        if member is None:
            return []
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of commands have a case
        try:
            parser.read_string(self._text(member).decode("utf-8"))
        except (configparser.Error, UnicodeDecodeError) as error:
            raise self._error(f"{self._info}/entry_points.txt", f"cannot be read: {error}") from None
        commands: dict[str, str] = {}
        for section in ("console_scripts", "gui_scripts"):
            if parser.has_section(section):
                commands.update(parser.items(section))
        for command, target in commands.items():
            if not _COMMAND.fullmatch(command) or not re.match(r"[\w.]+\s*:\s*[\w.]+\s*(\[|$)", target):
                raise self._error(
                    f"{self._info}/entry_points.txt", f"cannot make a script of {f'{command} = {target}'!a}"
                )
        return sorted(commands.items())

    def _check_member(self, info: zipfile.ZipInfo) -> None:
        parts = info.filename.split("/")
        if (
            "\\" in info.filename
            or "" in parts
            or "." in parts
            or ".." in parts
            or _CONTROL.search(info.filename)
            or info.filename != info.orig_filename
        ):
            raise self._error(info.filename, "is no path inside the wheel")
        if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in parts):
            raise self._error(info.filename, "has a longer name than a file may have")
        if any(part.startswith(WHITEOUT) for part in parts):
            raise self._error(
                info.filename, f"in an image, a name that begins with {WHITEOUT} takes another file away"
            )
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise self._error(info.filename, "is not a regular file")
        if info.flag_bits & 0x1:
            raise self._error(info.filename, "is encrypted")

    def _dist_info(self, names: list[str]) -> tuple[str, str, set[str]]:
        """The distribution's name, its .dist-info folder, which must be of that name (not all agree on versions), and
        those that it has of other versions: one installed project has one.
        """
        distribution, _, rest = self.name.partition("-")
        found = {name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info")}
        if not found:
            raise ToolError(f"{self.name}: has no .dist-info folder")
        for folder in sorted(found):
            if _normal(folder.partition("-")[0]) != _normal(distribution):
                raise ToolError(f"{self.name}: its metadata is that of {folder[: -len('.dist-info')]}")
        named = found & {f"{distribution}-{rest.partition('-')[0]}.dist-info"} or found
        if len(named) > 1:
            raise ToolError(f"{self.name}: has {len(found)} .dist-info folders: {', '.join(sorted(found))}")
        (own,) = named
        others = found - named
        if others:
            self.notes.append(f"{', '.join(sorted(others))} is left out, which is of another version")
        return distribution, own, others

    def _text(self, member: WheelMember) -> bytes:
        """A file that is read whole."""
        self._check_text(member.info)
        return read_all(member)

    def _check_text(self, info: zipfile.ZipInfo) -> None:
        # `zipfile` reads no more of a member than this.
        if info.file_size > _MOST_TEXT:
            raise self._error(info.filename, f"has {info.file_size} bytes, which no wheel's has")

    def _is_record(self, name: str) -> bool:
        return name in {f"{self._info}/{file}" for file in ("RECORD", *_SIGNATURES)}

    def _read_record(self) -> dict[str, _Row]:
        path = f"{self._info}/RECORD"
        try:
            info = self._archive.getinfo(path)
            self._check_text(info)
            text = self._archive.read(info).decode("utf-8")
            return {_one_form(row[0]): _Row.parsed(*row) for row in csv.reader(io.StringIO(text)) if row}
        except KeyError:
            raise ToolError(f"{self.name}: has no {path}") from None
        except (*ZIP_ERRORS, csv.Error) as error:
            raise self._error(path, f"cannot be read: {error}") from None

    def _row(self, info: zipfile.ZipInfo) -> _Row:
        return self._record.get(_one_form(info.filename), _Row(info.filename))

    def _member(self, info: zipfile.ZipInfo) -> WheelMember:
        row = self._row(info)
        if row.name != info.filename:
            self._renamed.append(row.name)
        if row.algorithm:
            return WheelMember(self._archive, info, self.name, row.algorithm, row.digest)
        self._unstated.append(info.filename)
        return WheelMember(self._archive, info, self.name, "sha256", self._digest(info))

    def _digest(self, info: zipfile.ZipInfo) -> bytes:
        digest = hashlib.sha256()
        try:
            with self._archive.open(info) as file:
                while data := file.read(CHUNK):
                    digest.update(data)
        except ZIP_ERRORS as error:
            raise self._error(info.filename, f"cannot be unpacked: {error}") from None
        return digest.digest()

    def _check_version(self) -> None:
        member = self._members.get(f"{self._info}/WHEEL")
        text = self._text(member).decode("utf-8", "replace") if member else ""
        match = re.search(r"^Wheel-Version:\s*(\d+)\.", text, re.MULTILINE)
        if match is None or match.group(1) != "1":
            raise self._error(f"{self._info}/WHEEL", "is not of wheel version 1")

    def _error(self, member: str, what: str) -> ToolError:
        return ToolError(f"{self.name}: {member}: {what}")


def _is_folder(info: zipfile.ZipInfo) -> bool:
    """Whether a member is a folder, which no installer makes for its own sake; not each is called `name/`."""
    mode = info.external_attr >> 16
    is_marked = stat.S_ISDIR(mode) if mode else bool(info.external_attr & _DOS_FOLDER)
    return info.is_dir() or (is_marked and info.file_size == 0)


def _one_form(name: str) -> str:
    """A name as archive and RECORD both have it: some tools write it absolute, or in another Unicode form."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).lstrip("/").removeprefix("./")


def _hash(data: bytes) -> str:
    return f"sha256={_base64(hashlib.sha256(data).digest())}"


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _with_shebang(member: WheelMember, interpreter: str) -> bytes | None:
    """A script whose `#!python` line names the interpreter; None if it has no such line (PEP 427)."""
    data = read_all(member)
    if not data.startswith(b"#!python"):
        return None
    rest = data.partition(b"\n")[2]
    return b"#!" + interpreter.encode() + b"\n" + rest


def _script(target: str, interpreter: str) -> str:
    module, _, attribute = target.partition("[")[0].partition(":")
    attribute = attribute.strip()
    return _SCRIPT.format(
        interpreter=interpreter, module=module.strip(), name=attribute.partition(".")[0], attribute=attribute
    )
