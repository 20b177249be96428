"""What a build step sees of a model's files: all of each, but of the model's module the source without the bodies of
the methods that only a server calls.

So editing `predict` makes nobody train the model again. Positions are those of Python's own parser; what is kept is
kept to the byte. It runs under any Python since 3.9 and gives the same bytes under each that can read the source. The
compiler and builds use the same functions, so it imports none of the programs beside it.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVING_METHODS = ("setup", "predict", "predict_demo")

_PIECE = 1 << 20

_Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


def module_file(folder: Path, module: str) -> str | None:
    """The file of a module in a folder, relative to it; a package's before a file's, as Python finds them."""
    stem = module.replace(".", "/")
    return next((name for name in (f"{stem}/__init__.py", f"{stem}.py") if (folder / name).is_file()), None)


def describe(path: Path, source: bytes | None = None) -> str:
    """What a file is, in one word or two: `-> TARGET` for a link, else its sha256, and ` x` where it may be run.

    source: its content, where that is not what the disk has.
    """
    if path.is_symlink():
        return f"-> {path.readlink().as_posix()}"
    digest = hashlib.sha256()
    if source is not None:
        digest.update(source)
    else:
        with path.open("rb") as file:
            while data := file.read(_PIECE):
                digest.update(data)
    return digest.hexdigest() + (" x" if path.stat().st_mode & 0o100 else "")


def without_serving(source: bytes, class_name: str) -> bytes:
    """The source with each body of `SERVING_METHODS` in a class replaced by a line that raises.

    class_name: of the class; wherever in the module one of that name is defined, outside of functions.

    Raises ValueError where the source can't be read.
    """
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        text = source.decode(encoding)
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError) as problem:
        raise ValueError(f"not Python: {problem}") from None
    lines = _Lines(text)
    for method in sorted(_methods(tree, class_name), key=lambda method: method.lineno, reverse=True):
        start, end = _body(lines, method)
        text = f"{text[:start]}{_replacement(method.name)}{text[end:]}"
    return text.encode(encoding)


def _replacement(name: str) -> str:
    return f' raise RuntimeError("{name} is not there while the image is built")'


def _methods(tree: ast.Module, class_name: str) -> Iterator[_Function]:
    for found in _definitions(tree, through_classes=True):
        if isinstance(found, ast.ClassDef) and found.name == class_name:
            for inner in _definitions(found, through_classes=False):
                if (
                    isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
                    and inner.name in SERVING_METHODS
                ):
                    yield inner


def _definitions(parent: ast.AST, *, through_classes: bool) -> Iterator[ast.AST]:
    """Functions and classes that a block defines, in its conditions and other statements too."""
    for child in ast.iter_child_nodes(parent):
        is_class = isinstance(child, ast.ClassDef)
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if is_class or is_function:
            yield child
        if not is_function and (through_classes or not is_class):
            yield from _definitions(child, through_classes=through_classes)


class _Lines:
    """A text by the lines that Python's parser counts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]

    def offset(self, line: int, column: int) -> int:
        """Where a position is in the text. column: in bytes of UTF-8, as the parser counts."""
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self.text)
        return start + len(self.text[start:end].encode()[:column].decode())

    def end(self, position: int) -> int:
        """The end of the line that a position is in, before its line break."""
        match = re.compile(r"[^\r\n]*").match(self.text, position)
        assert match is not None
        return match.end()


def _body(lines: _Lines, method: _Function) -> tuple[int, int]:
    """From after the colon to the end of the last line that belongs to a function; comments below count by their
    indentation, and blank lines always.
    """
    header: list[ast.AST] = [method.args, *getattr(method, "type_params", [])]
    header += [method.returns] if method.returns else []
    ends = [
        lines.offset(node.end_lineno, node.end_col_offset)
        for part in header
        for node in ast.walk(part)
        if isinstance(node, (ast.expr, ast.arg)) and node.end_lineno and node.end_col_offset
    ]
    place = max(ends, default=lines.offset(method.lineno, method.col_offset))
    match = re.compile(r"(?:[^:#]|#[^\r\n]*)*:").match(lines.text, place)
    assert match is not None  # every function has one
    last = method.body[-1]
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    end = lines.end(lines.offset(last.end_lineno, last.end_col_offset))
    own = lines.text[lines.offset(method.lineno, 0) : lines.offset(method.lineno, method.col_offset)]
    below = re.compile(r"(?:\r\n|\r|\n)([ \t\f]*)(#[^\r\n]*|(?=[\r\n]|\Z))")
    while (more := below.match(lines.text, end)) and more.end() > end:
        if more[2] and len(more[1].expandtabs()) <= len(own.expandtabs()):
            break
        if not more[2] and more.end() == len(lines.text):
            break  # the end of the last line
        end = more.end()
    return match.end(), end
