"""Files in inputs and outputs: images, audio, video, anything else, and an image with a mask.

A file is bytes, a file of this machine, or a web address. Which strings are files depends on who wrote
them. JSON comes from clients: data URIs, web addresses and plain base64 are files, and nothing in it can
name a file of this machine. Python values come from model code, where a path is a path. Written as JSON,
every file but a web address is a data URI.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import io
import os
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import PIL.Image
import pydantic
from pydantic_core import core_schema

from tungstenkit.sdk.addresses import decoded, download, from_code, scheme_of, shortened
from tungstenkit.sdk.io import BaseIO
from tungstenkit.sdk.look import Look
from tungstenkit.sdk.pictures import (
    DEEP,
    HELD,
    KEPT_FORMATS,
    MODES,
    PNG_MODES,
    SCALING,
    Picture,
    orientation,
    turned,
)
from tungstenkit.sdk.suffixes import (
    UNKNOWN_MEDIA_TYPE,
    suffix_of_name,
    suffix_of_type,
    type_of_name,
    with_suffix,
)
from tungstenkit.sdk.temporary import new_temporary_file

if TYPE_CHECKING:
    from typing import IO, Callable


__all__ = ["Audio", "Binary", "File", "FilePath", "Image", "MaskedImage", "Video"]

_Self = TypeVar("_Self", bound="File")


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
        self._given: Path | bytes | str | Picture
        self._given, self._media_type, self._suffix = from_code(source)
        self._temporary: Path | None = None
        self._look = Look.at(self._given)

    @classmethod
    def from_path(cls: type[_Self], path: str | os.PathLike[str]) -> _Self:
        """A file of this machine, which is read when it is needed."""
        return cls._of(Path(path).absolute())

    @classmethod
    def from_url(cls: type[_Self], url: str) -> _Self:
        """A file behind an http(s) address, or in a data URI; an address is downloaded when it is needed."""
        if scheme_of(url) not in ("data", "http", "https"):
            raise ValueError(f"not an http, https or data URL: {shortened(url)}")
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
    def _of(cls: type[_Self], given: Path | bytes | str | Picture, media_type: str | None = None) -> _Self:
        file = cls.__new__(cls)
        file._given, file._media_type, file._suffix, file._temporary = given, media_type, "", None
        file._look = Look.at(given)
        return file

    @property
    def _source(self) -> Path | bytes | str:
        """Where the contents are, or themselves; a picture that is not encoded yet is encoded."""
        if isinstance(self._given, Picture):
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
            self._media_type = download(self._source, target)
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

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the contents to a file, over one that is there; its path. OSError as for `to_bytes`."""
        target = Path(path)
        target.write_bytes(self.to_bytes())
        return target

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
            raise FileNotFoundError(f"{missing.filename} is not there; {READ_LATE}") from None

    @classmethod
    def _from_json(cls: type[_Self], value: object) -> _Self:
        if not isinstance(value, str):
            raise ValueError("a file must be a data URI, an http(s) address or base64")
        scheme = scheme_of(value)
        if scheme in ("data", "http", "https"):
            return cls(value)
        if scheme is not None:
            raise ValueError(f"the scheme {scheme!r} is not allowed; use data, http or https")
        if not value:
            raise ValueError("an empty string is no file")
        return cls.from_bytes(decoded(value.encode(), what=f"{shortened(value)} is neither a URI nor base64"))

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
        options = KEPT_FORMATS.get(image.format or "")
        if image.format is not None and options is not None:
            with contextlib.suppress(OSError, ValueError):
                exif = {"exif": image.getexif()} if orientation(image) > 1 else {}
                return cls._encoded(image, image.format, **options, **exif)
        image = turned(image)
        if image.mode in HELD:
            low, high = cast("tuple[float, float]", image.getextrema())
            most = HELD[image.mode]
            if not 0 <= low <= high <= most:  # nan is not either
                raise ValueError(
                    f"the image has mode {image.mode} and values from {low} to {high}, of which 0 to {most} can be "
                    "written; scale them first"
                )
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
            image = image.convert(PNG_MODES.get(image.mode, "RGB"))
        picture = Picture(image, "PNG", compress_level=compress_level)
        if getattr(image, "n_frames", 1) > 1:  # a copy would have one
            return cls.from_bytes(picture.encoded(), "image/png")
        picture.image = image.copy()
        return cls._of(picture, "image/png")

    @classmethod
    def _encoded(cls, image: PIL.Image.Image, image_format: str, **options: Any) -> Image:  # noqa: ANN401
        return cls.from_bytes(Picture(image, image_format, **options).encoded(), PIL.Image.MIME[image_format])

    def to_pil_image(self, mode: str = "RGB") -> PIL.Image.Image:
        """A Pillow image, converted to `mode`, as it is meant to be seen. RGB drops transparency.

        mode: RGB, RGBA, CMYK, YCbCr, LAB, HSV, 1, L, P, I or F.

        Where the file says that its camera was turned (EXIF), so is the image. Raises ValueError where the file
        is not an image that Pillow reads, is damaged, has more pixels than Pillow takes for safe, or has more
        than 8 bits a colour and `mode` has not; OSError where the file itself can't be read.
        """
        if mode not in MODES:
            raise ValueError(f"Unsupported image mode: {mode!r}; use one of {', '.join(MODES)}")
        image = self._upright()
        if image.mode in DEEP and mode not in DEEP:
            raise ValueError(
                f"{self!r} has mode {image.mode}, whose values {mode} can't hold; scale them to what the model "
                f"expects, such as the darkest to black and the brightest to white:\n{SCALING.format(mode=mode)}"
            )
        return image.convert(mode)

    def _upright(self) -> PIL.Image.Image:
        """The image in its own mode, turned as its EXIF says."""
        with self._opened() as image:
            try:
                image.load()
                return turned(image)
            except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
                raise ValueError(f"{self!r} is a damaged image: {error}") from error

    def _size(self) -> tuple[int, int]:
        """Width and height as it is seen, of the header alone where that says both."""
        with self._opened() as image:
            if image.format == "TIFF":
                image.load()  # turns it; and what it says before that differs between releases of Pillow
            width, height = image.size
            return (height, width) if orientation(image) >= 5 else (width, height)

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
        if isinstance(self._given, Picture):
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
        if image.mode in DEEP:
            # So that all but 0 is at least 1 of 255, and at most that.
            image = image.convert("F").point(lambda value: value * 1e6)
        return Image.from_pil_image(image.convert("L").point([0] + [255] * 255))

    @pydantic.model_validator(mode="after")
    def _same_size(self) -> MaskedImage:
        image, mask = self.image._size(), self.mask._size()
        if image != mask:
            raise ValueError(f"Mask size is different to the image's (image: {image}, mask: {mask})")
        return self


READ_LATE = "the file of an output is read after `predict` has returned"
"""What is said where it is not there by then."""

writing_files: contextvars.ContextVar[Callable[[File], str] | None] = contextvars.ContextVar(
    "writing_files", default=None
)
"""Where it is set, what files are written as in JSON, in place of their URIs."""
