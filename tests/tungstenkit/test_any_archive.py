"""A wheel or a source with whatever bytes is read, or refused in our own words: pins come from anybody's registry."""

import io
import zipfile
from contextlib import suppress

import pytest

from tungstenkit.fetch.archives import read_facts
from tungstenkit.resolve.python_index import metadata_of
from tungstenkit.resolve.scan import scan_wheel
from tungstenkit.sdk.errors import TungstenError

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def spoilt(method):
    """An archive with each of its bytes another one, one at a time."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("x-1/setup.py", "pass\n")
        archive.writestr("x-1.dist-info/METADATA", "Name: x\nVersion: 1\n" * 3)
    data = made.getvalue()
    for place in range(len(data)):
        yield data[:place] + b"\xff" + data[place + 1 :]


@pytest.mark.parametrize("method", METHODS)
def test_what_has_another_byte_is_read_or_refused(tmp_path, method):
    wheel, source = tmp_path / "x-1-py3-none-any.whl", tmp_path / "x-1.zip"
    for data in spoilt(method):
        with suppress(TungstenError):
            metadata_of(io.BytesIO(data), wheel.name)
        for path, read in ((wheel, scan_wheel), (source, lambda path: read_facts(path, path.name))):
            path.write_bytes(data)
            with suppress(TungstenError):
                read(path)
