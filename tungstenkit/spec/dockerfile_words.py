"""Words of Dockerfile instructions: where they end, their quotes, and the variables in them.

The rules are those of the Dockerfile reference, "Environment replacement". What a variable of the base image holds is
known only when an image is put together, so a text may have holes, which whoever builds fills.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dockerfile_parse.util import WordSplitter
from pydantic import SerializerFunctionWrapHandler, model_serializer

from tungstenkit.document import Document

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Hole", "Text", "WordError", "expand", "pairs", "plain", "words"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Hole(Document):
    """A variable of the image below, empty where it has none of that name."""

    variable: str
    if_empty: Text | None = None
    """Stands for it where it is empty."""
    if_set: Text | None = None
    """Stands for it where it is not."""

    @model_serializer(mode="wrap")
    def _without_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if value is not None}


Text = str | tuple[str | Hole, ...]
"""A text, or parts of one that stand one after the other."""

Hole.model_rebuild()


class WordError(Exception):
    """What is wrong with a word."""


def words(value: str) -> list[str]:
    """The words of a line, with their quotes."""
    return list(WordSplitter(value).split(dequote=False))


def pairs(value: str) -> list[tuple[str, str]]:
    """The names and words of ENV and LABEL: `a=b c="d e"`, or one name and all the rest; not expanded.

    Raises WordError.
    """
    found_words = words(value)
    if "=" not in found_words[0]:
        name, *rest = value.split(None, 1)
        if not rest:
            raise WordError(f"{name} has no value; write {name}=…")
        return [(name, rest[0])]
    found = []
    for word in found_words:
        name, equals, text = word.partition("=")
        if not equals:
            raise WordError(f"{word!r} is not of the form name=value; a value with spaces stands in quotes")
        found.append((plain(expand(name, {})), text))
    return found


def expand(word: str, scope: Mapping[str, Text], *, holes: bool = False) -> Text:
    """A word without its quotes, and with the values of variables.

    scope: what is set. holes: whether what is not set there is left for whoever builds.

    Raises WordError for a quote that nothing ends, and for a variable that is not set.
    """
    reader = _Reader(word, scope, holes=holes)
    reader.read()
    return _joined(reader.parts)


def plain(text: Text) -> str:
    """A text that has no holes. Raises WordError."""
    if isinstance(text, str):
        return text
    names = [part.variable for part in text if isinstance(part, Hole)]
    raise WordError(f"${names[0]} is the image's own, and only ENV can use it; write its value")


class _Reader:
    """Reads one word from its beginning to its end."""

    def __init__(self, word: str, scope: Mapping[str, Text], *, holes: bool) -> None:
        self.word = word
        self.scope = scope
        self.holes = holes
        self.place = 0
        self.parts: list[str | Hole] = []

    def read(self) -> None:
        quoted = False
        while self.place < len(self.word):
            letter = self.word[self.place]
            self.place += 1
            if letter == "\\" and self.place < len(self.word):
                following = self.word[self.place]
                self.place += 1
                self.parts.append(following if not quoted or following in '"$\\' else letter + following)
            elif letter == '"':
                quoted = not quoted
            elif letter == "'" and not quoted:
                end = self.word.find("'", self.place)
                if end < 0:
                    raise WordError(f"nothing ends the quote in {self.word!r}")
                self.parts.append(self.word[self.place : end])
                self.place = end + 1
            elif letter == "$":
                self._variable()
            else:
                self.parts.append(letter)
        if quoted:
            raise WordError(f"nothing ends the quote in {self.word!r}")

    def _variable(self) -> None:
        braced = self.word.startswith("{", self.place)
        match = _NAME.match(self.word, self.place + braced)
        if not match:
            if braced:
                raise WordError(f"{self.word!r} has no name of a variable after its '${{'")
            self.parts.append("$")
            return
        self.place = match.end()
        modifier = word = ""
        if braced:
            modifier, word = self._modifier()
        self._put(match[0], modifier, word)

    def _modifier(self) -> tuple[str, str]:
        """What stands between a variable's name and the brace that ends it."""
        start, depth = self.place, 1
        while depth:
            if self.place == len(self.word):
                raise WordError(f"nothing ends the '${{' in {self.word!r}")
            letter = self.word[self.place]
            self.place += 2 if letter == "\\" else 1
            depth += {"{": 1, "}": -1}.get(letter, 0)
        match = re.fullmatch(r"(:?[-+]|)(.*)", self.word[start : self.place - 1], re.DOTALL)
        assert match is not None  # the first group may be empty
        if match[2] and not match[1]:
            raise WordError(
                f"{self.word!r} changes a variable in a way that is not known: there are :- and :+"
            )
        return match[1], match[2]

    def _put(self, name: str, modifier: str, word: str) -> None:
        value = self.scope.get(name)
        if modifier and value is None and self.holes:
            text = expand(word, self.scope, holes=True)
            key = "if_empty" if modifier.endswith("-") else "if_set"
            self.parts.append(Hole.model_validate({"variable": name, key: text}))
        elif modifier:
            counts = value is not None and (value != "" or ":" not in modifier)
            if modifier.endswith("+"):
                value = expand(word, self.scope, holes=self.holes) if counts else ""
            elif not counts:
                value = expand(word, self.scope, holes=self.holes)
            self._append(value or "")
        elif value is not None:
            self._append(value)
        elif self.holes:
            self.parts.append(Hole(variable=name))
        else:
            raise WordError(f"${name} is set by no ENV or ARG above; set it there, or write its value")

    def _append(self, value: Text) -> None:
        self.parts += [value] if isinstance(value, str) else value


def _joined(parts: list[str | Hole]) -> Text:
    joined: list[str | Hole] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    if not joined:
        return ""
    return joined[0] if len(joined) == 1 and isinstance(joined[0], str) else tuple(joined)
