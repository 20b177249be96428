"""Which suffix a file gets, and which media type a suffix means.

The SDK and the server each have this file, with the same text: neither sees the other's packages. A file's name does
not travel with it, but for its suffix, which says more than most media types: as a data URI's parameter `name`, where
the type alone would not lead to it.
"""

from __future__ import annotations

import functools
import mimetypes
import re

UNKNOWN_MEDIA_TYPE = "application/octet-stream"

# The common types, because Python's own table grows from version to version. Of a type's suffixes the first one is
# what its files get.
MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
    ".svg": "image/svg+xml",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/opus",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".zip": "application/zip",
    ".gz": "application/gzip",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".bin": UNKNOWN_MEDIA_TYPE,
}

_SUFFIXES = {media_type: suffix for suffix, media_type in reversed(MEDIA_TYPES.items())}
# What browsers and older programs call them.
_SUFFIXES.update(
    {"audio/x-wav": ".wav", "audio/wave": ".wav", "audio/vnd.wave": ".wav", "audio/x-flac": ".flac"}
)

_SUFFIX = re.compile(
    r"(?<=[^./\\])((?:\.[A-Za-z0-9]{1,10})?\.(?:gz|bz2|xz|zst)|\.[A-Za-z0-9]{1,10})$", re.IGNORECASE
)

_NAME = re.compile(r";\s*name=([^;]*)", re.IGNORECASE)


@functools.lru_cache(maxsize=1)
def _other_types() -> mimetypes.MimeTypes:
    """Python's table without the machine's own files, which would make results depend on the machine."""
    return mimetypes.MimeTypes()


def suffix_of_name(name: str) -> str:
    """A file name's suffix, with the one before it where that is a compression's; empty where it is none, or odd."""
    found = _SUFFIX.search(name)
    return found[1] if found else ""


def suffix_of_type(media_type: str) -> str:
    """What the files of a type are called; empty where that is not known."""
    essence = media_type.partition(";")[0].strip().lower()
    return _SUFFIXES.get(essence) or _other_types().guess_extension(essence) or ""


def type_of_name(name: str) -> str:
    """The media type that a file name means."""
    suffix = "." + name.rpartition(".")[2].lower()
    return MEDIA_TYPES.get(suffix) or _other_types().guess_type(f"file{suffix}")[0] or UNKNOWN_MEDIA_TYPE


def with_suffix(media_type: str, suffix: str) -> str:
    """A media type that says which suffix its file has, where it does not say so by itself."""
    essence = media_type.partition(";")[0].strip().lower()
    # Of what only Python's table knows, another Python's may not.
    if not suffix or MEDIA_TYPES.get(suffix.lower()) == essence or _SUFFIXES.get(essence) == suffix.lower():
        return media_type
    return f"{media_type};name=file{suffix}"


def without_suffix(media_type: str) -> tuple[str, str]:
    """What `with_suffix` was given; the suffix of the type where it says none."""
    found = _NAME.search(media_type)
    if found is None:
        return media_type, suffix_of_type(media_type)
    plain = media_type[: found.start()] + media_type[found.end() :]
    return plain, suffix_of_name(found[1].strip('"')) or suffix_of_type(plain)
