"""libfaketime's library: what of it a program must not see."""

import ctypes
from pathlib import Path

from pydantic_core import _pydantic_core

from tungstenkit.seal.fake_time import without


def test_the_loader_no_longer_finds_a_function_that_is_taken_out(tmp_path):
    library = tmp_path / "library.so"
    content = Path(_pydantic_core.__file__).read_bytes()
    name = "PyInit__pydantic_core"
    library.write_bytes(without(content, "no_such_function"))
    assert library.read_bytes() == content
    assert hasattr(ctypes.CDLL(str(library)), name)
    less = tmp_path / "less.so"
    less.write_bytes(without(content, name))
    assert not hasattr(ctypes.CDLL(str(less)), name)
