"""Output files as addresses of this server, for clients that would rather fetch them than get them as base64.

Nothing is held for it: the address says which of a kept prediction's files is meant, and the file is taken out of
the prediction's JSON when it is asked for. So files expire with results, and count as them. Immutable; any thread
may use it.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tungsten_server.checks.files import LONGEST_HEADER, MEDIA_TYPE, FileFields
from tungsten_server.http.wire import json_body
from tungsten_server.words.prediction import Output
from tungsten_server.words.suffixes import UNKNOWN_MEDIA_TYPE, without_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = ("image/", "audio/", "video/")
"""What a browser that is sent to the address shows; all else it saves."""

# A model made the file, and perhaps of what a stranger sent: it must not act in this server's name.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class OutputFile(NamedTuple):
    """A file, and how HTTP calls it."""

    content: bytes
    media_type: str
    disposition: str
    """Its Content-Disposition (RFC 6266)."""


class OutputLinks:
    """The files in one model's outputs: their numbers, counted through an output and then its demo output."""

    def __init__(self, output_schema: dict[str, Any], demo_output_schema: dict[str, Any]) -> None:
        """Find the file fields."""
        self._fields = FileFields(output_schema, 0)
        self._demo_fields = FileFields(demo_output_schema, 0)

    def linked(self, outputs: Sequence[Output], base: str) -> list[Output]:
        """Write outputs with an address `base/INDEX/NUMBER` in place of each file."""
        return [self._linked(output, f"{base}/{index}") for index, output in enumerate(outputs)]

    def without_files(self, piece: bytes) -> bytes:
        """A piece without the fields that hold files: those have no address before there is the whole output."""
        document = json.loads(piece)
        for place, _ in _files(document, self._fields):
            document.pop(place[0], None)
        return json_body(document)

    def file(self, outputs: Sequence[Output], index: int, number: int) -> OutputFile | None:
        """Take out one file; None where there is none."""
        if index >= len(outputs):
            return None
        documents = self._documents(outputs[index])
        found = [uri for document, fields in documents for _, uri in _files(document, fields)]
        return _decoded(found[number], number) if number < len(found) else None

    def _documents(self, output: Output) -> list[tuple[Any, FileFields]]:
        parts = (output.json, self._fields), (output.demo_json, self._demo_fields)
        return [(json.loads(text) if text else None, fields) for text, fields in parts]

    def _linked(self, output: Output, base: str) -> Output:
        documents = self._documents(output)
        number = 0
        for document, fields in documents:
            for place, _ in _files(document, fields):
                container = document
                for key in place[:-1]:
                    container = container[key]
                container[place[-1]] = f"{base}/{number}"
                number += 1
        (document, _), (demo, _) = documents
        return Output(json_body(document), json_body(demo) if output.demo_json else b"")


def _files(document: object, fields: FileFields) -> list[tuple[tuple[str | int, ...], str]]:
    """The files that an output holds, as the SDK writes them; an address of the web is one already."""
    found = dict(fields.texts(document))
    return [
        (place, text)
        for place, text in found.items()
        if text.startswith("data:") and ";base64," in text[:LONGEST_HEADER]
    ]


def _decoded(uri: str, number: int) -> OutputFile | None:
    header, _, payload = uri[len("data:") :].partition(";base64,")
    declared, suffix = without_suffix(header)
    essence = declared.partition(";")[0].lower()
    media_type = declared if essence and MEDIA_TYPE.fullmatch(declared) else UNKNOWN_MEDIA_TYPE
    shown = essence.startswith(_SHOWN) and essence != "image/svg+xml"
    disposition = f'{"inline" if shown else "attachment"}; filename="output-{number}{suffix or ".bin"}"'
    try:
        return OutputFile(base64.b64decode(payload), media_type, disposition)
    except binascii.Error:  # a text that looked like a file, where the model may give either
        return None
