"""zstd by its own library, libzstd, which stands beside Debian's Python in the root that makes layers: no Python before
3.14 has a module for it.

It is looked for where it is needed: other roots, in which some of these programs run, have neither it nor ctypes.
"""

from __future__ import annotations

import io
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from program import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

# From zstd.h: what a call is asked to do, and the names of parameters.
_GO_ON, _END = 0, 2
_LEVEL, _CHECKSUM, _LARGEST_WINDOW = 100, 201, 100
_WINDOW = 31  # bits, as the program takes with --long
_PIECE = 1 << 17


class _Library:
    """libzstd, and what its functions are given."""

    def __init__(self) -> None:
        try:
            import ctypes

            library = ctypes.CDLL("libzstd.so.1")
        except (ImportError, OSError) as problem:
            raise ToolError(f"there is no libzstd beside this Python: {problem}") from None

        class Buffer(ctypes.Structure):
            """ZSTD_inBuffer and ZSTD_outBuffer, which are alike."""

            _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("place", ctypes.c_size_t))

        self._ctypes, self._library, self._buffer = ctypes, library, Buffer
        context, buffer = ctypes.c_void_p, ctypes.POINTER(Buffer)
        for name, result, arguments in (
            ("versionString", ctypes.c_char_p, ()),
            ("isError", ctypes.c_uint, (ctypes.c_size_t,)),
            ("getErrorName", ctypes.c_char_p, (ctypes.c_size_t,)),
            ("createCCtx", context, ()),
            ("freeCCtx", ctypes.c_size_t, (context,)),
            ("CCtx_setParameter", ctypes.c_size_t, (context, ctypes.c_int, ctypes.c_int)),
            ("compressStream2", ctypes.c_size_t, (context, buffer, buffer, ctypes.c_int)),
            ("createDCtx", context, ()),
            ("freeDCtx", ctypes.c_size_t, (context,)),
            ("DCtx_setParameter", ctypes.c_size_t, (context, ctypes.c_int, ctypes.c_int)),
            ("decompressStream", ctypes.c_size_t, (context, buffer, buffer)),
        ):
            function = getattr(library, f"ZSTD_{name}")
            function.restype, function.argtypes = result, arguments

    def call(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401 (as the function has it)
        """Call a function by its name without the prefix; `ToolError` for an error of it."""
        result = getattr(self._library, f"ZSTD_{name}")(*arguments)
        if isinstance(result, int) and not name.startswith("create") and self._library.ZSTD_isError(result):
            raise ToolError(f"zstd: {self._library.ZSTD_getErrorName(result).decode()}")
        return result

    def source(self, data: bytes) -> Any:  # noqa: ANN401 (a class of a module that may be absent)
        """A buffer of bytes, which must be kept as long."""
        place = self._ctypes.cast(self._ctypes.c_char_p(data), self._ctypes.c_void_p)
        return self._buffer(place, len(data), 0)

    def target(self, into: Any) -> Any:  # noqa: ANN401
        """A buffer that is written to, over one of Python's."""
        place = self._ctypes.addressof(self._ctypes.c_char.from_buffer(into))
        return self._buffer(place, len(into), 0)


_library = cache(_Library)


def version() -> str:
    """The library's."""
    return str(_library().call("versionString").decode())


class Compressor:
    """One frame, by one thread. Its bytes depend on the input, the level and the library's version alone."""

    def __init__(self, level: int) -> None:
        """Start a frame, which ends with a checksum of what it holds."""
        self._library = _library()
        self._context = self._library.call("createCCtx")
        for name, value in ((_LEVEL, level), (_CHECKSUM, 1)):
            self._library.call("CCtx_setParameter", self._context, name, value)
        self._waiting = bytearray()
        self._out = bytearray(_PIECE)

    def compress(self, data: bytes) -> bytes:
        """Add bytes; what is ready by now."""
        self._waiting += data
        # Cut at fixed places: the caller's pieces must not show.
        whole = len(self._waiting) // _PIECE * _PIECE
        pieces = [bytes(self._waiting[start : start + _PIECE]) for start in range(0, whole, _PIECE)]
        del self._waiting[:whole]
        return b"".join(ready for piece in pieces for ready in self._run(piece, _GO_ON))

    def flush(self) -> bytes:
        """End the frame; the rest of it."""
        rest = b"".join([*self._run(bytes(self._waiting), _GO_ON), *self._run(b"", _END)])
        self._library.call("freeCCtx", self._context)
        return rest

    def _run(self, data: bytes, what: int) -> Iterator[bytes]:
        source, left = self._library.source(data), 1
        while source.place < source.size or (what == _END and left):
            out = self._library.target(self._out)
            left = self._library.call("compressStream2", self._context, out, source, what)
            yield bytes(self._out[: out.place])


class _Frames(io.RawIOBase):
    """What the frames of a file hold."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._library = _library()
        self._context = self._library.call("createDCtx")
        self._library.call("DCtx_setParameter", self._context, _LARGEST_WINDOW, _WINDOW)
        self._data = b""
        self._source = self._library.source(self._data)
        self._left = 0
        """Zero where a frame has ended."""

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:  # noqa: ANN401 (as io has it)
        """Fill a buffer; 0 at the end. `ToolError` for what is no frame, or is cut."""
        out = self._library.target(into)
        while out.place == 0 and out.size:
            if self._source.place == self._source.size:
                self._data = self._file.read(_PIECE)
                if not self._data and self._left:
                    raise ToolError("zstd: the end is missing")
                if not self._data:
                    break
                self._source = self._library.source(self._data)
            self._left = self._library.call("decompressStream", self._context, out, self._source)
        return int(out.place)

    def close(self) -> None:
        if not self.closed:
            self._library.call("freeDCtx", self._context)
        super().close()


def decompressed(file: IO[bytes]) -> io.BufferedReader:
    """What a file of frames holds, to be read and closed."""
    return io.BufferedReader(_Frames(file), _PIECE)
