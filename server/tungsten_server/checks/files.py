"""The file fields of a model's inputs and outputs: where they are, and which texts are refused for one.

What can be told without decoding a file is told here, before the model sees it; the rest is the SDK's. Pure;
any thread may use it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from tungsten_server.words.problems import MAX_PROBLEMS, Location, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_TYPES = frozenset({"image", "audio", "video", "binary"})

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SPACE = b" \t\r\n"

# RFC 2397, with the parameters that browsers and the SDK know.
MEDIA_TYPE = re.compile(r"([\w.+-]+/[\w.+-]+)?(;[\w.+-]+=[\w.+%\"-]+)*", re.ASCII)
LONGEST_HEADER = 1000

_NO_FILE = "file_invalid"
_NO_URLS = (
    "addresses are not fetched here: send the file as a data: URI, or have the server's operator set --allow-urls "
    "(TUNGSTEN_ALLOW_URLS=1)"
)


class FileFields:
    """The file fields that a schema in the spec's normal form has.

    max_file: bytes that a file may have.
    """

    def __init__(self, schema: dict[str, Any], max_file: int) -> None:
        """Find them."""
        self._part = _file_part(schema)
        self._max_file = max_file

    def problems(self, value: object) -> list[Problem]:
        """Say which files in an input that its schema allows are refused."""
        problems = []
        for location, text, must_be_file in _texts(self._part, value, ()):
            problem = self._problem(text)
            if problem and (must_be_file or problem[1] != _NO_FILE):
                problems.append(Problem(location, *problem))
                if len(problems) == MAX_PROBLEMS:
                    break
        return problems

    def texts(self, value: object) -> Iterator[tuple[Location, str]]:
        """Find what stands in file fields, and where; a place comes twice where two types of a union are files."""
        return ((location, text) for location, text, _ in _texts(self._part, value, ()))

    def _problem(self, text: str) -> tuple[str, str] | None:
        """Say why a file field's text is refused.

        A client may send a file's bytes; it may not make this machine fetch or open one.
        """
        scheme = _SCHEME.match(text)
        if scheme is None:
            size = _base64_size(text)
            if not size:
                return "a file must be a data: URI or base64", _NO_FILE
        elif scheme.group(1).lower() == "data":
            size = _data_uri_size(text)
            if size is None:
                return "the data: URI is malformed", _NO_FILE
        elif scheme.group(1).lower() in ("http", "https"):
            return _NO_URLS, "url_not_enabled"
        else:
            return "a file must be a data: URI or base64", _NO_FILE
        if size > self._max_file:
            return f"the file has more than {self._max_file} bytes", "file_too_large"
        return None


def is_url(text: str) -> bool:
    """Whether a file field's text is an address to be fetched."""
    return text[:6].lower().startswith(("http:", "https:"))


def _texts(
    part: dict[str, Any], value: object, location: Location, *, must_be_file: bool = True
) -> Iterator[tuple[Location, str, bool]]:
    """Walk a value along its schema's file part.

    Texts come with whether they must be files: beside a file type, a union may have a type that a text fits as it is.
    """
    if "file" in part:
        if isinstance(value, str):
            yield location, value, must_be_file
        return
    if not part:
        return
    if part["choices"]:
        must_be_file = must_be_file and not (part["no_files"] and part["no_files"].is_valid(value))
        for choice in part["choices"]:
            yield from _texts(choice, value, location, must_be_file=must_be_file)
    if isinstance(value, dict):
        for name, item in value.items():
            inner = part["fields"].get(name, part["others"])
            yield from _texts(inner, item, (*location, name), must_be_file=must_be_file)
    elif isinstance(value, list):
        prefix = part["prefix"]
        for index, item in enumerate(value):
            inner = prefix[index] if index < len(prefix) else part["items"]
            yield from _texts(inner, item, (*location, index), must_be_file=must_be_file)


def _data_uri_size(uri: str) -> int | None:
    """How many bytes a data URI holds, at most; None if it is malformed."""
    comma = uri.find(",", 0, LONGEST_HEADER)
    header = uri[len("data:") : comma]
    if comma < 0:
        return None
    base64 = header.lower().endswith(";base64")
    if not MEDIA_TYPE.fullmatch(header[: -len(";base64")] if base64 else header):
        return None
    payload = uri[comma + 1 :]
    if not base64 or "%" in payload:  # percent-encoding is rare: its base64 is the SDK's to check
        return len(payload)
    return _base64_size(payload)


def _base64_size(text: str) -> int | None:
    """How many bytes base64 holds, whose lines may be wrapped; None if it is malformed."""
    try:
        data = text.encode("ascii")
    except UnicodeEncodeError:
        return None
    # What is left when all that is allowed is taken away: fast, and makes no list of the megabytes.
    others = data.translate(None, _BASE64)
    padding = others.count(b"=")
    if others.translate(None, _SPACE) != b"=" * padding or padding > 2:
        return None
    characters = len(data) - len(others) + padding
    ends_well = not padding or data.translate(None, _SPACE).endswith(b"=" * padding)
    return characters // 4 * 3 - padding if characters % 4 == 0 and ends_well else None


def _file_part(schema: object) -> dict[str, Any]:
    """Reduce a schema to what leads to file fields, so that checking them costs little; {} if there are none."""
    if not isinstance(schema, dict):
        return {}
    if schema.get("x-file-type") in FILE_TYPES:
        return {"file": True}
    choices = [
        (choice, _file_part(choice))
        for word in ("anyOf", "oneOf", "allOf")
        for choice in schema.get(word, ())
    ]
    part: dict[str, Any] = {
        "fields": {name: _file_part(field) for name, field in schema.get("properties", {}).items()},
        "others": _file_part(schema.get("additionalProperties")),
        "prefix": [_file_part(item) for item in schema.get("prefixItems", ())],
        "items": _file_part(schema.get("items")),
        "choices": [found for _, found in choices if found],
    }
    leads_to_files = (
        *part["fields"].values(),
        part["others"],
        *part["prefix"],
        part["items"],
        *part["choices"],
    )
    if not any(leads_to_files):
        return {}
    others = [choice for choice, found in choices if not found and "allOf" not in schema]
    part["no_files"] = jsonschema_rs.Draft202012Validator({"anyOf": others}) if others else None
    return part
