"""Files of requirements, which `-r` and `-c` name: their lines, and entries written out with them.

They are written out when a model's definition is read, so that `spec.json` holds all that was asked for; `-c` then
stands before a requirement.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from tungstenkit.outside import LARGEST_SETTINGS, contents
from tungstenkit.sdk.wishes import split_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16's, which its own begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


# Requirement files

_MOST_FILES = 1000


def lock_file_of(entry: str) -> str | None:
    """The lock file of another tool that an entry names, `-c uv.lock`; None for any other entry."""
    match = re.fullmatch(r"(?:-c|--constraint)[\s=]*(\S.*\.(?:lock|toml))", entry.strip())
    return match[1] if match else None


def written_out(
    entries: Sequence[str], folder: Path, prefix: str = "python_packages"
) -> Iterator[tuple[str, str]]:
    """Entries with those of the files that they name, each with where it stands: `python_packages[0]`.

    folder: the model's, which the paths of the files are relative to, and in which they are: an error shows their
    lines. Raises ValueError, worded whole, for a file that can't be read, is elsewhere or names itself.
    """
    numbered = [(f"{prefix}[{n}]", entry) for n, entry in enumerate(entries)]
    yield from _written_out(numbered, folder, (), folder.resolve(), iter(range(_MOST_FILES)))


def _written_out(
    entries: Sequence[tuple[str, str]],
    folder: Path,
    inside: tuple[Path, ...],
    top: Path,
    more: Iterator[int],
    *,
    constrains: bool = False,
) -> Iterator[tuple[str, str]]:
    for where, entry in entries:
        try:
            option, value = split_option(entry)
        except ValueError:
            option, value = None, entry
        if option not in ("-r", "-c"):
            yield where, f"-c {value}" if constrains and option in (None, "-e") else entry
            continue
        path = folder / value
        name = path.name
        is_locked = path.suffix in (".lock", ".toml")
        if option == "-r" and path.suffix == ".toml" and not name.startswith("pylock"):
            raise ValueError(
                f"{where}: {value} is no file of requirements; write what it lists as dependencies, an entry for each"
            )
        if is_locked and option == "-r":
            raise ValueError(
                f"{where}: {value} says which versions, and not what the model needs; write '-c {value}', and the "
                "packages that the model imports"
            )
        if path.resolve() in inside:
            raise ValueError(f"{where}: {value} names itself")
        if not path.resolve().is_relative_to(top):
            raise ValueError(f"{where}: {value} is not in the model's folder; put a copy there")
        # Files that name others twice, and these again, are soon more than can be read.
        if next(more, None) is None:
            raise ValueError(f"{where}: more than {_MOST_FILES} files are named")
        if is_locked:
            yield where, f"-c {path.resolve().relative_to(top).as_posix()}"
            continue
        try:
            lines = list(lines_of(decoded(contents(path, LARGEST_SETTINGS))))
        except OSError as error:
            raise ValueError(f"{where}: {value} can't be read: {error.strerror}") from None
        except UnicodeError:
            raise ValueError(f"{where}: {value} is neither UTF-8 nor UTF-16 with a byte order mark") from None
        numbered = [(f"{name}:{number}", line) for number, line in lines]
        yield from _written_out(
            numbered,
            path.parent,
            (*inside, path.resolve()),
            top,
            more,
            constrains=constrains or option == "-c",
        )


def decoded(data: bytes) -> str:
    """A text file's text: as its byte order mark says, else as UTF-8. Raises UnicodeError."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a requirements file with their numbers: joined at a backslash, without comments and blank ones."""
    begun, start = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if begun else number
        plain = re.sub(r"(^|\s)#.*$", "", line)
        if plain.endswith("\\"):
            begun += plain[:-1]
            continue
        if joined := (begun + plain).strip():
            yield start, re.sub(r"\s+", " ", joined)
        begun = ""
