"""Files in inputs and outputs: images, audio, video, anything else, and an image with a mask.

A file is bytes, a file of this machine, or a web address. Which strings are files depends on who wrote
them. JSON comes from clients: data URIs, web addresses and plain base64 are files, and nothing in it can
name a file of this machine. Python values come from model code, where a path is a path. Written as JSON,
every file but a web address is a data URI.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import contextlib
import contextvars
import functools
import io
import os
import re
import shutil
import struct
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import PIL.Image
import pydantic
from pydantic_core import core_schema

from tungstenkit.sdk.io import BaseIO
from tungstenkit.sdk.suffixes import (
    UNKNOWN_MEDIA_TYPE,
    suffix_of_name,
    suffix_of_type,
    type_of_name,
    with_suffix,
    without_suffix,
)

if TYPE_CHECKING:
    from typing import IO, Callable

__all__ = ["Audio", "Binary", "File", "FilePath", "Image", "MaskedImage", "Video", "temporary_files"]

# A download may take this long in all (seconds), each read at most `READ_TIMEOUT`, and be this big (bytes).
DOWNLOAD_TIMEOUT = 600
READ_TIMEOUT = 10
DOWNLOAD_LIMIT = 4 * 1024**3

_Self = TypeVar("_Self", bound="File")


def file_clock() -> int:
    """Now, in nanoseconds, as file systems of this machine note it: never later than what is written from now on."""
    probe = _probe()
    os.utime(probe)
    return os.fstat(probe).st_ctime_ns


@functools.cache
def _probe() -> int:
    """A file of nobody else's. What a file's time is compared with must come from the clock that file systems have."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("clock")
    return os.dup(tempfile.TemporaryFile().fileno())


@dataclass(frozen=True)
class Look:
    """What a file of this machine was like, to tell later whether it was written since."""

    status: tuple[int, ...]
    content: int | None
    """A hash, where the file's times can't tell: it was written so shortly before that they may stay the same."""

    wanted: ClassVar[bool] = False
    """Whether files are looked at when a `File` is made of them; `outputs` asks for it."""

    @classmethod
    def at(cls, source: object) -> Look | None:
        """Look at a file; None where nobody wants it, or there is none."""
        if not cls.wanted or not isinstance(source, Path):
            return None
        try:
            status = source.stat()
            recent = file_clock() - status.st_ctime_ns < _TICK and status.st_size <= _QUICKLY_READ
            return cls(_identity(status), hash(source.read_bytes()) if recent else None)
        except OSError:
            return None

    def is_same(self, status: os.stat_result, content: bytes | Path) -> bool:
        """Whether it is as it was. content: its bytes, or a copy of it."""
        if self.status != _identity(status) or self.content is None:
            return self.status == _identity(status)
        return self.content == hash(content if isinstance(content, bytes) else content.read_bytes())


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


_TICK = 20_000_000  # nanoseconds: two of the slowest clocks' ticks
_QUICKLY_READ = 1 << 20  # bytes; what is bigger is not written twice within a tick


class FilePath(str):
    """A path as a `str`, which some libraries insist on, with `pathlib.Path`'s attributes and `/`."""

    __slots__ = ()

    def __fspath__(self) -> str:
        """See `os.PathLike`."""
        return str(self)

    def __truediv__(self, other: str | os.PathLike[str]) -> Path:
        """As `pathlib.Path` does."""
        return Path(self) / other

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever Path has)
        """What `str` lacks is `pathlib.Path`'s."""
        return getattr(Path(self), name)


class File:
    """A file in an input or output. Model code uses its subclasses.

    Made with one of the `from_…` methods, or from what model code may give for a file: a path, or a URI
    with the scheme `data`, `http`, `https` or `file`. Two files are equal when they have the same bytes,
    path or address.
    """

    file_type: ClassVar[str]

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """See the class. Raises ValueError for a URI that is malformed or of another scheme."""
        self._given: Path | bytes | str | _Picture
        self._given, self._media_type, self._suffix = _from_code(source)
        self._temporary: Path | None = None
        self._look = Look.at(self._given)

    @classmethod
    def from_path(cls: type[_Self], path: str | os.PathLike[str]) -> _Self:
        """A file of this machine, which is read when it is needed."""
        return cls._of(Path(path).absolute())

    @classmethod
    def from_url(cls: type[_Self], url: str) -> _Self:
        """A file behind an http(s) address, or in a data URI; an address is downloaded when it is needed."""
        if _scheme(url) not in ("data", "http", "https"):
            raise ValueError(f"not an http, https or data URL: {_shortened(url)}")
        return cls(url)

    @classmethod
    def from_bytes(cls: type[_Self], data: bytes, media_type: str = UNKNOWN_MEDIA_TYPE) -> _Self:
        """The bytes of a file; `media_type` is its MIME type."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes wanted, not {type(data).__name__}")
        return cls._of(bytes(data), media_type)

    @classmethod
    def from_buffer(cls: type[_Self], buffer: IO[bytes] | IO[str]) -> _Self:
        """What is left to read in an open file; text becomes UTF-8."""
        if not hasattr(buffer, "read"):
            raise TypeError(f"an open file wanted, not {type(buffer).__name__}")
        data = buffer.read()
        name = getattr(buffer, "name", None)
        name = name if isinstance(name, str) else ""
        file = cls.from_bytes(data.encode() if isinstance(data, str) else data, type_of_name(name))
        file._suffix = suffix_of_name(name)
        return file

    @classmethod
    def _of(cls: type[_Self], given: Path | bytes | str | _Picture, media_type: str | None = None) -> _Self:
        file = cls.__new__(cls)
        file._given, file._media_type, file._suffix, file._temporary = given, media_type, "", None
        file._look = Look.at(given)
        return file

    @property
    def _source(self) -> Path | bytes | str:
        """Where the contents are, or themselves; a picture that is not encoded yet is encoded."""
        if isinstance(self._given, _Picture):
            self._given = self._given.encoded()
        return self._given

    @property
    def path(self) -> FilePath:
        """The path of a file on this machine with these contents.

        Contents that are no file yet are written to one in a temporary directory, which lasts as long as
        the process or the surrounding `temporary_files`. An address is downloaded; OSError says why it
        could not be.
        """
        if isinstance(self._source, Path):
            return FilePath(self._source)
        if self._temporary is None or not self._temporary.exists():
            self._temporary = self._write()
        return FilePath(self._temporary)

    def _write(self) -> Path:
        target = new_temporary_file(self.suffix)
        if isinstance(self._source, str):
            self._media_type = _download(self._source, target)
            return target
        target.write_bytes(self.to_bytes())
        return target

    @property
    def suffix(self) -> str:
        """What the file's name ends in, such as `.png` or `.nii.gz`: as it was named, or else by its type; or empty."""
        if self._suffix:
            return self._suffix
        if isinstance(self._source, str):
            return suffix_of_name(urllib.parse.urlsplit(self._source).path)
        if isinstance(self._source, Path):
            return suffix_of_name(self._source.name)
        return suffix_of_type(self.media_type)

    def to_bytes(self) -> bytes:
        """The contents. OSError where the file can't be read or the address not downloaded."""
        return self._source if isinstance(self._source, bytes) else Path(self.path).read_bytes()

    @property
    def media_type(self) -> str:
        """The MIME type: as declared, or else by the file's name; `application/octet-stream` when unknown."""
        if self._media_type is not None:
            return self._media_type
        if isinstance(self._source, str):
            return type_of_name(urllib.parse.urlsplit(self._source).path)
        return type_of_name(str(self._source))

    @property
    def uri(self) -> str:
        """The file as JSON has it: its address on the web, or a data URI (RFC 2397) of the contents."""
        if isinstance(self._source, str):
            return self._source
        data = base64.b64encode(self.to_bytes()).decode("ascii")
        return f"data:{with_suffix(self.media_type, self.suffix)};base64,{data}"

    def __eq__(self, other: object) -> bool:
        """Equal by class and contents."""
        return isinstance(other, File) and type(other) is type(self) and other._source == self._source

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Short, whatever the file's size."""
        if isinstance(self._source, bytes):
            return f"{type(self).__name__}(<{len(self._source)} bytes>)"
        return f"{type(self).__name__}({str(self._source)!r})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: pydantic.GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """How pydantic reads and writes files; see the module's docstring for what strings mean."""
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_plain_validator_function(cls._from_json),
            python_schema=core_schema.no_info_plain_validator_function(cls._from_python),
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._written, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )

    @staticmethod
    def _written(file: File) -> str:
        write = writing_files.get()
        try:
            return file.uri if write is None else write(file)
        except FileNotFoundError as missing:
            raise FileNotFoundError(
                f"{missing.filename} is not there; the file of an output is read after `predict` has returned"
            ) from None

    @classmethod
    def _from_json(cls: type[_Self], value: object) -> _Self:
        if not isinstance(value, str):
            raise ValueError("a file must be a data URI, an http(s) address or base64")
        scheme = _scheme(value)
        if scheme in ("data", "http", "https"):
            return cls(value)
        if scheme is not None:
            raise ValueError(f"the scheme {scheme!r} is not allowed; use data, http or https")
        if not value:
            raise ValueError("an empty string is no file")
        return cls.from_bytes(
            _decoded(value.encode(), what=f"{_shortened(value)} is neither a URI nor base64")
        )

    @classmethod
    def _from_python(cls: type[_Self], value: object) -> _Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, (str, os.PathLike)):
            return cls(value)
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ValueError(f"must be {cls.__name__}, a path or a URI, not {kind}{cls._made_of(value)}")

    @classmethod
    def _made_of(cls, value: object) -> str:
        """How a file is made of what was given for one, to be told; empty where it can't."""
        is_picture = issubclass(cls, Image)
        if isinstance(value, PIL.Image.Image):
            how = "from_pil_image(picture)" if is_picture else ""
        elif hasattr(value, "__array_interface__"):
            how = (
                "from_pil_image(PIL.Image.fromarray(array))" if is_picture else "from_bytes(array.tobytes())"
            )
        elif isinstance(value, (bytes, bytearray, memoryview)):
            how = "from_bytes(data)"
        else:
            how = "from_buffer(file)" if hasattr(value, "read") else ""
        return how and f"; write {cls.__name__}.{how}"


class _Picture:
    """A Pillow image that nobody else has, and how it is to be encoded."""

    def __init__(self, image: PIL.Image.Image, image_format: str, **options: Any) -> None:  # noqa: ANN401
        self.image = image
        self._format = image_format
        self._options = options

    def encoded(self) -> bytes:
        buffer = io.BytesIO()
        if getattr(self.image, "n_frames", 1) > 1:
            self._options["save_all"] = True
        self.image.save(buffer, format=self._format, **self._options)
        return buffer.getvalue()


class Image(File):
    """A picture."""

    file_type = "image"

    @classmethod
    def from_pil_image(cls, image: PIL.Image.Image, *, compress_level: int = 1) -> Image:
        """A Pillow image as it is now, in the format that it was read from, or else as PNG.

        The PNG is made when somebody asks for it: of an output, outside the model's turn.

        compress_level: zlib's level for PNG, 0 to 9. The default, 1, is several times faster than Pillow's
        own, 6, for files that are a little bigger; no level changes a pixel.

        JPEG keeps its quantisation tables. Modes that PNG has not are converted: CMYK, YCbCr, HSV and LAB
        to RGB, F to L, I to 16 bits, premultiplied alpha to plain. Raises ValueError where F has values outside
        0 to 255, or I outside 0 to 65535.
        """
        if not isinstance(image, PIL.Image.Image):
            raise TypeError(f"a Pillow image wanted, not {type(image).__module__}.{type(image).__name__}")
        image.load()
        options = _KEPT_FORMATS.get(image.format or "")
        if image.format is not None and options is not None:
            with contextlib.suppress(OSError, ValueError):
                exif = {"exif": image.getexif()} if _orientation(image) > 1 else {}
                return cls._encoded(image, image.format, **options, **exif)
        image = _turned(image)
        if image.mode in _HELD:
            low, high = cast("tuple[float, float]", image.getextrema())
            most = _HELD[image.mode]
            if not 0 <= low <= high <= most:  # nan is not either
                raise ValueError(
                    f"the image has mode {image.mode} and values from {low} to {high}, of which 0 to {most} can be "
                    "written; scale them first"
                )
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
            image = image.convert(_PNG_MODES.get(image.mode, "RGB"))
        picture = _Picture(image, "PNG", compress_level=compress_level)
        if getattr(image, "n_frames", 1) > 1:  # a copy would have one
            return cls.from_bytes(picture.encoded(), "image/png")
        picture.image = image.copy()
        return cls._of(picture, "image/png")

    @classmethod
    def _encoded(cls, image: PIL.Image.Image, image_format: str, **options: Any) -> Image:  # noqa: ANN401
        return cls.from_bytes(
            _Picture(image, image_format, **options).encoded(), PIL.Image.MIME[image_format]
        )

    def to_pil_image(self, mode: str = "RGB") -> PIL.Image.Image:
        """A Pillow image, converted to `mode`, as it is meant to be seen. RGB drops transparency.

        mode: RGB, RGBA, CMYK, YCbCr, LAB, HSV, 1, L, P, I or F.

        Where the file says that its camera was turned (EXIF), so is the image. Raises ValueError where the file
        is not an image that Pillow reads, is damaged, has more pixels than Pillow takes for safe, or has more
        than 8 bits a colour and `mode` has not; OSError where the file itself can't be read.
        """
        if mode not in _MODES:
            raise ValueError(f"Unsupported image mode: {mode!r}; use one of {', '.join(_MODES)}")
        image = self._upright()
        if image.mode in _DEEP and mode not in _DEEP:
            raise ValueError(
                f"{self!r} has mode {image.mode}, whose values {mode} can't hold; scale them to what the model "
                f"expects, such as the darkest to black and the brightest to white:\n{_SCALING.format(mode=mode)}"
            )
        return image.convert(mode)

    def _upright(self) -> PIL.Image.Image:
        """The image in its own mode, turned as its EXIF says."""
        with self._opened() as image:
            try:
                image.load()
                return _turned(image)
            except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
                raise ValueError(f"{self!r} is a damaged image: {error}") from error

    def _size(self) -> tuple[int, int]:
        """Width and height as it is seen, of the header alone where that says both."""
        with self._opened() as image:
            if image.format == "TIFF":
                image.load()  # turns it; and what it says before that differs between releases of Pillow
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)

    @property
    def media_type(self) -> str:
        """As in `File`; where nothing was declared, what the contents show."""
        media_type = super().media_type
        if media_type == UNKNOWN_MEDIA_TYPE and isinstance(self._source, bytes):
            with contextlib.suppress(ValueError), self._opened() as image:
                return PIL.Image.MIME.get(image.format or "", media_type)
        return media_type

    def _opened(self) -> PIL.Image.Image:
        """The image with only its header read."""
        if isinstance(self._given, _Picture):
            return self._given.image.copy()
        source: Any = io.BytesIO(self._source) if isinstance(self._source, bytes) else self.path
        try:
            image = PIL.Image.open(source)
        except PIL.UnidentifiedImageError as error:
            raise ValueError(f"{self!r} is not an image that Pillow reads") from error
        except (PIL.Image.DecompressionBombError, SyntaxError) as error:
            raise ValueError(f"{self!r} is not a usable image: {error}") from error
        if image.format == "EPS":
            # Pillow would hand it to Ghostscript: PostScript is a program, and a client's must not run.
            image.close()
            raise ValueError(f"{self!r} is not an image that is read here: PostScript")
        return image


class Audio(File):
    """A sound recording."""

    file_type = "audio"


class Video(File):
    """A film."""

    file_type = "video"


class Binary(File):
    """A file of any kind."""

    file_type = "binary"


class MaskedImage(BaseIO):
    """An image and a mask of the same size. Every pixel of the mask becomes 0 or, where it was not 0, 255."""

    file_type: ClassVar[str] = "masked_image"

    image: Image
    mask: Image

    @pydantic.field_validator("mask")
    @classmethod
    def _two_values(cls, mask: Image) -> Image:
        image = mask._upright()
        if image.mode in _DEEP:
            # So that all but 0 is at least 1 of 255, and at most that.
            image = image.convert("F").point(lambda value: value * 1e6)
        return Image.from_pil_image(image.convert("L").point([0] + [255] * 255))

    @pydantic.model_validator(mode="after")
    def _same_size(self) -> MaskedImage:
        image, mask = self.image._size(), self.mask._size()
        if image != mask:
            raise ValueError(f"Mask size is different to the image's (image: {image}, mask: {mask})")
        return self


# The formats that an image keeps, with the options that change its pixels least.
_KEPT_FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": "keep"},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
}

# Modes with more than 8 bits a colour.
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")

# Of those that are converted, the greatest value that is kept.
_HELD = {"I": 65535, "F": 255}

# Python for who gets a picture of such a mode.
_SCALING = """\
    grey = image.to_pil_image("F")
    low, high = grey.getextrema()
    scale = 255 / ((high - low) or 1)
    picture = grey.point(lambda value: value * scale - low * scale).convert("L").convert("{mode}")"""

_ORIENTATION = 0x0112  # EXIF's tag


def _orientation(image: PIL.Image.Image) -> int:
    """What EXIF says of the camera's turn: 1 to 8; 1 where it says nothing that is known."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError, struct.error):  # EXIF that is damaged
        return 1
    return found if isinstance(found, int) and 1 < found <= 8 else 1


def _turned(image: PIL.Image.Image) -> PIL.Image.Image:
    """An image that is loaded, turned as its EXIF says."""
    if _orientation(image) == 1:
        return image
    from PIL import ImageOps  # few pictures need it

    # Forgets what EXIF says of it, too: model code that does the same turns nothing twice.
    return ImageOps.exif_transpose(image)


_MODES = ("RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "1", "L", "P", "I", "F")

# The nearest mode that PNG has; RGB where none is named.
_PNG_MODES = {"I": "I;16", "F": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}


_parent: Path | None = None


def keep_files_in(folder: Path) -> None:
    """Have all temporary files of this process in a folder, which is made with the first of them.

    Whoever has started the process can so remove what it leaves behind when it is killed.
    """
    global _parent
    _parent = folder


class _Scratch:
    """A temporary directory that is made when it is first needed."""

    @functools.cached_property
    def directory(self) -> Path:
        if _parent is not None:
            _parent.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="tungsten-", dir=_parent))

    def remove(self) -> None:
        if "directory" in vars(self):
            shutil.rmtree(self.directory, ignore_errors=True)


writing_files: contextvars.ContextVar[Callable[[File], str] | None] = contextvars.ContextVar(
    "writing_files", default=None
)
"""Where it is set, what files are written as in JSON, in place of their URIs."""

_scratch: contextvars.ContextVar[_Scratch | None] = contextvars.ContextVar("scratch", default=None)


@functools.lru_cache(maxsize=1)
def _scratch_of_process(process_id: int) -> _Scratch:
    """Where a process has its files until it ends. A forked child must not remove its parent's."""
    scratch = _Scratch()
    atexit.register(lambda: scratch.remove() if os.getpid() == process_id else None)
    return scratch


class temporary_files(contextlib.AbstractContextManager[None]):  # noqa: N801 (used as a function)
    """Remove, at the end of the block, the files that `File.path` wrote in it.

    A process that serves many requests runs each in such a block, or its temporary directory grows for ever.
    """

    def __enter__(self) -> None:
        self._of_block = _Scratch()
        self._token = _scratch.set(self._of_block)

    def __exit__(self, *_: object) -> None:
        _scratch.reset(self._token)
        self._of_block.remove()


def new_temporary_file(suffix: str = "") -> Path:
    """A path for a file that lasts as long as the process or the surrounding `temporary_files`."""
    scratch = _scratch.get() or _scratch_of_process(os.getpid())
    return scratch.directory / f"{uuid.uuid4().hex}{suffix}"


def _from_code(source: str | os.PathLike[str]) -> tuple[Path | bytes | str, str | None, str]:
    """What a string or path means in model code, and its MIME type and suffix where a data URI says so."""
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a path or a URI wanted, not {type(source).__name__}")
    scheme = _scheme(source) if isinstance(source, str) else None
    text = os.fspath(source)
    if scheme == "data":
        return _from_data_uri(text)
    if scheme in ("http", "https"):
        if not urllib.parse.urlsplit(text).hostname:
            raise ValueError(f"no host in {_shortened(text)}")
        return text, None, ""
    if scheme == "file":
        parts = urllib.parse.urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError(f"{_shortened(text)}: only absolute paths of this machine are supported")
        return Path(urllib.parse.unquote(parts.path)), None, ""
    if scheme is not None:
        raise ValueError(
            f"{_shortened(text)}: the scheme {scheme!r} is not supported; use data, http, https or file"
        )
    if not text:
        raise ValueError("an empty string is no file")
    return Path(text).absolute(), None, ""


def _scheme(text: str) -> str | None:
    """The URI scheme of `text`, in lower case; None for anything that need not be a URI."""
    match = re.match(r"(?i)(?:(data|https?|file):|([a-z][a-z0-9+.-]*)://)", text)
    return (match.group(1) or match.group(2)).lower() if match else None


def _from_data_uri(uri: str) -> tuple[bytes, str, str]:
    """The bytes, MIME type and suffix of a data URI (RFC 2397)."""
    header, comma, data = uri[len("data:") :].partition(",")
    plain = re.sub(r"(?i);base64$", "", header)
    media_type = plain if plain and not plain.startswith(";") else f"text/plain{plain or ';charset=US-ASCII'}"
    if not comma or not re.fullmatch(r"[\w.+-]+/[\w.+-]+(;[\w.+-]+=[\w.+%\"-]+)*", media_type, re.ASCII):
        raise ValueError(f"not a data URI: {_shortened(uri)}")
    payload = urllib.parse.unquote_to_bytes(data) if "%" in data or plain == header else data.encode()
    if plain != header:
        payload = _decoded(payload, what=f"malformed base64 in {_shortened(uri)}")
    return (payload, *without_suffix(media_type))


def _decoded(data: bytes, *, what: str) -> bytes:
    """`data` from base64, whose lines may be wrapped; `what` is the error otherwise."""
    try:
        return base64.b64decode(data.translate(None, b" \t\r\n"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{what} ({error})") from None


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text) - 2} characters)"


def _download(url: str, target: Path) -> str | None:
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
        raise OSError(f"could not download {_shortened(url)}: {error}") from error
