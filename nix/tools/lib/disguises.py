"""Values that nobody may see, and the forms in which programs write them down: found in files, masked in what is said.

Known are: as it is, in UTF-16, in hexadecimal, in base64 (both alphabets, wherever in the text the value begins, in
lines, too), with the escapes of JSON and of URLs, and all of these inside gzip, zlib and zip. What is encrypted, or
encoded in a way of its own, is not known, nor anything else than the value itself of one of fewer than 8 bytes: that
would be found everywhere.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import IO

SHORTEST = 8  # bytes that are a secret by themselves
MASK = b"***"

_PIECE = 1 << 20
_MOST_INFLATED = 1 << 36  # bytes of one file; more is a bomb, and not somebody's token
_DEEPEST = 4  # archives within each other
_RUN = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
_PART = 12  # letters of an encoded value that are enough to know it by, where lines part it
_BETWEEN = b" \t\r\n\\"  # what parts the lines of base64, and escapes its `/`
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    NotImplementedError,
)


class Disguises:
    """The forms of some values."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """values: by name."""
        self._plain: dict[str, list[bytes]] = {}
        self._encoded: dict[str, list[bytes]] = {}
        lines_of_all: list[bytes] = []
        for name, text in values.items():
            value = os.fsencode(text)
            self._plain[name], self._encoded[name] = [value], []
            if len(value) >= SHORTEST:
                self._plain[name] = list(dict.fromkeys(_escaped(text, value)))
                self._encoded[name] = list(dict.fromkeys(_encoded(text, value)))
            # A key may have several lines, and what is printed is masked line by line.
            lines = [line for line in value.splitlines() if len(line) >= SHORTEST and line != value]
            lines_of_all += [form for line in lines for form in _escaped(os.fsdecode(line), line)]
            lines_of_all += [form for line in lines for form in _encoded(os.fsdecode(line), line)]
        encoded = [form for forms in self._encoded.values() for form in forms]
        self._parts = {
            form[start : start + _PART] for form in encoded for start in range(len(form) - _PART + 1)
        }
        self._short = [form for form in encoded if len(form) < _PART]
        plain = {form for forms in (*self._plain.values(), lines_of_all, encoded) for form in forms}
        # The longest first: one may be a part of another.
        self._all = sorted(plain, key=len, reverse=True)
        self._longest = len(self._all[0]) if self._all else 0

    def masked(self, data: bytes) -> bytes:
        """What is printed, without the values."""
        if self._parts:
            # What stands around a value may be in the same letters: all of them go.
            data = _RUN.sub(lambda found: MASK if self._is_part(found[0]) else found[0], data)
        for form in self._all:
            data = data.replace(form, MASK)
        return data

    def _is_part(self, run: bytes) -> bool:
        pieces = (run[start : start + _PART] for start in range(len(run) - _PART + 1))
        return any(form in run for form in self._short) or not self._parts.isdisjoint(pieces)

    def of_path(self, path: str) -> list[str]:
        """The names of the values that are in a file, a link's target, or the path itself."""
        found = set(self._in(os.fsencode(path)))
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            found.update(self._in(os.fsencode(os.readlink(path))))  # noqa: PTH115 (as it is written)
        elif stat.S_ISREG(info.st_mode) and self._plain:
            with Path(path).open("rb") as file:
                found.update(self._of_file(file, _Budget(_MOST_INFLATED), 0))
        return sorted(found)

    def _in(self, data: bytes) -> Iterator[str]:
        joined = None
        for name, forms in self._plain.items():
            if any(form in data for form in forms):
                yield name
            elif forms := self._encoded[name]:
                if joined is None:
                    # Lines within JSON end in two letters.
                    joined = data.replace(rb"\n", b"").replace(rb"\r", b"").translate(None, _BETWEEN)
                if any(form in data or form in joined for form in forms):
                    yield name

    def _of_file(self, file: IO[bytes], budget: _Budget, depth: int) -> set[str]:
        start = file.read(4)
        file.seek(0)
        found = self._of_stream(iter(lambda: file.read(_PIECE), b""))
        if depth < _DEEPEST:
            if start[:2] == b"\x1f\x8b" or (start[:1] == b"\x78" and _is_zlib(start)):
                file.seek(0)
                found |= self._of_stream(_inflated(file, budget))
            file.seek(0)
            found |= self._of_members(file, budget, depth)
        return found

    def _of_members(self, file: IO[bytes], budget: _Budget, depth: int) -> set[str]:
        found: set[str] = set()
        try:
            if not zipfile.is_zipfile(file):
                return found
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    with suppress(*_ZIP_ERRORS), archive.open(info) as member:
                        found |= self._of_file(_Counted(member, budget), budget, depth + 1)  # type: ignore[arg-type]
        except _ZIP_ERRORS:
            pass
        return found

    def _of_stream(self, pieces: Iterable[bytes]) -> set[str]:
        # Between two pieces of a file a value may lie across, with the ends of some lines in it.
        found: set[str] = set()
        tail = b""
        for piece in pieces:
            data = tail + piece
            found.update(self._in(data))
            tail = data[-2 * self._longest :]
        return found


class _Budget:
    """How much may still be inflated."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise OSError(f"it inflates to more than {_MOST_INFLATED >> 30} GiB")


class _Counted:
    """A file whose bytes count."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self._file, self._budget = file, budget

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._budget.take(len(data))
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()


def _escaped(text: str, value: bytes) -> Iterator[bytes]:
    """A value as texts hold it: with none, some or all of its letters escaped."""
    yield value
    for safe in ("", "/", "/:@"):
        once = quote(value, safe=safe)
        yield from (once.encode(), re.sub("%..", lambda found: found[0].lower(), once).encode())
    yield from (quote_plus(value).encode(), quote_plus(value, safe="/").encode())
    yield from ("".join(f"%{byte:02{case}}" for byte in value).encode() for case in "xX")
    yield from (text.encode(form, "surrogatepass") for form in ("utf-16-le", "utf-16-be"))
    for is_ascii in (False, True):
        plain = json.dumps(text, ensure_ascii=is_ascii)[1:-1]
        # As other writers of JSON have it: PHP escapes `/`, Go and what is put into pages `<`, `>`, `&` and `'`.
        pages = re.sub("[<>&'=+]", lambda found: f"\\u{ord(found[0]):04x}", plain)
        for form in (plain, plain.replace("/", "\\/"), pages, pages.replace("/", "\\/")):
            yield form.encode("utf-8", "surrogateescape")
            yield re.sub(r"\\u....", lambda found: "\\u" + found[0][2:].upper(), form).encode(
                "utf-8", "surrogateescape"
            )
    units = text.encode("utf-16-be", "surrogatepass")
    yield from (
        "".join(
            f"\\u{int.from_bytes(units[at : at + 2], 'big'):04{case}}" for at in range(0, len(units), 2)
        ).encode()
        for case in "xX"
    )


def _encoded(text: str, value: bytes) -> Iterator[bytes]:
    """A value in alphabets of their own: of base64 what depends on the value alone, wherever it begins."""
    for data in (value, text.encode("utf-16-le", "surrogatepass")):
        yield from (data.hex().encode(), data.hex().upper().encode())
        for before in range(3):
            after = -(before + len(data)) % 3
            whole = base64.b64encode(bytes(before) + data + bytes(after))
            # What stands before and after the value has its share in the letters at both ends.
            core = whole[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
            yield from (core, core.replace(b"+", b"-").replace(b"/", b"_"))
            yield quote(core, safe="").encode()


def _is_zlib(start: bytes) -> bool:
    return len(start) > 1 and int.from_bytes(start[:2], "big") % 31 == 0  # RFC 1950, section 2.2


def _inflated(file: IO[bytes], budget: _Budget) -> Iterator[bytes]:
    """What a gzip file of several members, or a zlib stream, inflates to, as far as it is sound."""
    raw = b""
    try:
        while raw or (raw := file.read(_PIECE)):
            inflater = zlib.decompressobj(47)  # a header of gzip's, or of zlib's
            while True:
                data = inflater.decompress(raw, _PIECE)
                budget.take(len(data))
                yield data
                raw = inflater.unconsumed_tail
                if inflater.eof:
                    break
                if not raw and not data and not (raw := file.read(_PIECE)):
                    return
            # Zeros may pad it.
            raw = inflater.unused_data.lstrip(b"\0")
    except (zlib.error, OSError):
        return
