"""A package's control file, read out of it."""

import io
import lzma
import tarfile

import pytest

from tests.binaries import ar, deb
from tungstenkit.debian.deb import read_control
from tungstenkit.sdk.errors import FetchError


def packed(*members):
    """A package whose control archive has members: names, and bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    control = lzma.compress(data.getvalue(), preset=0)
    return io.BytesIO(ar([("debian-binary", b"2.0\n"), ("control.tar.xz", control)]))


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_its_fields_are_read_and_nothing_of_its_files(tmp_path, compression):
    path = deb(
        tmp_path / "data_1.0-2_all.deb",
        {"usr/share/data": b"data"},
        compression=compression,
        control={"Architecture": "all", "Depends": "a, b (>= 1)", "Source": "d (1)"},
        scripts={"postinst": "#!/bin/sh\n"},
    )
    # What follows the control archive need not be there.
    data = path.read_bytes()
    with io.BytesIO(data[: data.index(b"data.tar")]) as file:
        fields = read_control(file, path.name)
    assert {key: fields[key] for key in ("Package", "Version", "Architecture", "Depends", "Source")} == {
        "Package": "data",
        "Version": "1.0-2",
        "Architecture": "all",
        "Depends": "a, b (>= 1)",
        "Source": "d (1)",
    }


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (io.BytesIO(b"PK"), "no `ar` archive"),
        (io.BytesIO(ar([("debian-binary", b"2.0\n")])), "it holds no control.tar"),
        (io.BytesIO(ar([("control.tar.xz", b"nonsense")])), "not a Debian package"),
        (packed(("./postinst", b"")), "it has no control file"),
        # A package is somebody else's: it must not be unpacked to whatever size.
        (packed(("./big", bytes(65 << 20)), ("./control", b"Package: a\n")), "it has no control file"),
    ],
)
def test_what_is_none_is_refused(file, why):
    with pytest.raises(FetchError, match=why) as caught:
        read_control(file, "a.deb")
    assert caught.value.where == "a.deb"
