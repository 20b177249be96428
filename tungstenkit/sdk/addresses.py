"""Which strings are files: data URIs, addresses on the web and base64, and what they hold."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tungstenkit.sdk.suffixes import (
    without_suffix,
)

# A download may take this long in all (seconds), each read at most `READ_TIMEOUT`, and be this big (bytes).
DOWNLOAD_TIMEOUT = 600
READ_TIMEOUT = 10
DOWNLOAD_LIMIT = 4 * 1024**3


def from_code(source: str | os.PathLike[str]) -> tuple[Path | bytes | str, str | None, str]:
    """What a string or path means in model code, and its MIME type and suffix where a data URI says so."""
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a path or a URI wanted, not {type(source).__name__}")
    scheme = scheme_of(source) if isinstance(source, str) else None
    text = os.fspath(source)
    if scheme == "data":
        return _from_data_uri(text)
    if scheme in ("http", "https"):
        if not urllib.parse.urlsplit(text).hostname:
            raise ValueError(f"no host in {shortened(text)}")
        return text, None, ""
    if scheme == "file":
        parts = urllib.parse.urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError(f"{shortened(text)}: only absolute paths of this machine are supported")
        return Path(urllib.parse.unquote(parts.path)), None, ""
    if scheme is not None:
        raise ValueError(
            f"{shortened(text)}: the scheme {scheme!r} is not supported; use data, http, https or file"
        )
    if not text:
        raise ValueError("an empty string is no file")
    return Path(text).absolute(), None, ""


def scheme_of(text: str) -> str | None:
    """The URI scheme of `text`, in lower case; None for anything that need not be a URI."""
    match = re.match(r"(?i)(?:(data|https?|file):|([a-z][a-z0-9+.-]*)://)", text)
    return (match.group(1) or match.group(2)).lower() if match else None


def _from_data_uri(uri: str) -> tuple[bytes, str, str]:
    """The bytes, MIME type and suffix of a data URI (RFC 2397)."""
    header, comma, data = uri[len("data:") :].partition(",")
    plain = re.sub(r"(?i);base64$", "", header)
    media_type = plain if plain and not plain.startswith(";") else f"text/plain{plain or ';charset=US-ASCII'}"
    if not comma or not re.fullmatch(r"[\w.+-]+/[\w.+-]+(;[\w.+-]+=[\w.+%\"-]+)*", media_type, re.ASCII):
        raise ValueError(f"not a data URI: {shortened(uri)}")
    payload = urllib.parse.unquote_to_bytes(data) if "%" in data or plain == header else data.encode()
    if plain != header:
        payload = decoded(payload, what=f"malformed base64 in {shortened(uri)}")
    return (payload, *without_suffix(media_type))


def decoded(data: bytes, *, what: str) -> bytes:
    """`data` from base64, whose lines may be wrapped; `what` is the error otherwise."""
    try:
        return base64.b64decode(data.translate(None, b" \t\r\n"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{what} ({error})") from None


def shortened(value: object) -> str:
    """A value as an error shows it: as Python writes it, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text) - 2} characters)"


def download(url: str, target: Path) -> str | None:
    """Write what an http(s) address holds to `target` and return its declared MIME type."""
    # Without urllib's handlers for ftp, file and data a redirect can lead to the web alone.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    end = time.monotonic() + DOWNLOAD_TIMEOUT
    try:
        with opener.open(url, timeout=READ_TIMEOUT) as response, target.open("wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                if file.tell() > DOWNLOAD_LIMIT:
                    raise OSError(f"more than {DOWNLOAD_LIMIT} bytes")
                if time.monotonic() > end:
                    raise TimeoutError(f"not done after {DOWNLOAD_TIMEOUT} s")
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != file.tell():
                raise OSError(f"{file.tell()} bytes came instead of {length}")
            declared: str = response.headers.get_content_type()
            return declared if "Content-Type" in response.headers else None
    except (OSError, HTTPException, ValueError) as error:
        target.unlink(missing_ok=True)
        raise OSError(f"could not download {shortened(url)}: {error}") from error
