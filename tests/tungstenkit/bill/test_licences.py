"""Licences are what packages say of theirs, in SPDX's terms; what those have no name for keeps its own."""

import zipfile
from pathlib import Path

import pytest

from tests.binaries import deb, wheel
from tungstenkit.bill import licences
from tungstenkit.bill.licences import Deb, of_copyright, of_debs, of_metadata, of_readme, of_wheel
from tungstenkit.digest import sha256_of
from tungstenkit.sdk.errors import FetchError

DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


def metadata(*lines):
    return "\n".join(["Metadata-Version: 2.4", "Name: some", "Version: 1", *lines, "", "License: not here"])


@pytest.mark.parametrize(
    ("lines", "expression"),
    [
        (["License-Expression: mit or Apache-2.0"], "MIT OR Apache-2.0"),
        # PEP 639 has the last word.
        (
            ["License-Expression: ISC", "License: MIT", "Classifier: License :: OSI Approved :: BSD License"],
            "ISC",
        ),
        (["License: BSD-3-clause"], "BSD-3-Clause"),
        (["License: Apache License, Version 2.0"], "Apache-2.0"),
        (["Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (
            [
                "License: Dual License",
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)",
            ],
            "GPL-2.0-or-later AND MIT",
        ),
    ],
)
def test_a_wheel_that_names_a_listed_licence_has_its_identifier(lines, expression):
    found = of_metadata(metadata(*lines))
    assert (found.expression, found.texts) == (expression, ())


@pytest.mark.parametrize(
    ("lines", "name", "text"),
    [
        # There are three of them.
        (
            ["Classifier: License :: OSI Approved :: BSD License"],
            "BSD License",
            "License :: OSI Approved :: BSD License",
        ),
        (["License: Our own, 1999"], "Our own, 1999", "Our own, 1999"),
        (["License: Our own", "        in two lines"], "Our own", "Our own\n        in two lines"),
        (["License-Expression: LicenseRef-Ours", "License: Ours"], "Ours", "Ours"),
    ],
)
def test_what_a_wheel_calls_otherwise_keeps_its_words(lines, name, text):
    found = of_metadata(metadata(*lines))
    (one,) = found.texts
    assert (one.name, one.text) == (name, text)
    assert found.expression == one.id
    assert one.id.startswith("LicenseRef-")


@pytest.mark.parametrize("lines", [[], ["License: UNKNOWN"], ["License-Expression: "]])
def test_a_wheel_that_says_nothing_has_none(lines):
    assert of_metadata(metadata(*lines)) is None


def test_equal_words_are_one_reference_and_others_another():
    first, again, other = (of_metadata(metadata(f"License: {word}")) for word in ("Ours", "Ours", "Theirs"))
    assert first == again
    assert first.expression != other.expression


@pytest.mark.parametrize(
    ("said", "expression"),
    [
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-3", "GPL-3.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Apache-2", "Apache-2.0"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("GPL-2+ or Expat", "GPL-2.0-or-later OR MIT"),
        ("Expat and Zlib", "MIT AND Zlib"),
        # A comma binds least.
        ("GPL-2+ or Expat, and Zlib", "(GPL-2.0-or-later OR MIT) AND Zlib"),
        ("GPL-2+ or Expat and Zlib", "GPL-2.0-or-later OR (MIT AND Zlib)"),
    ],
)
def test_debians_short_names_are_spdxs(said, expression):
    assert of_copyright(f"{DEP5}\nFiles: *\nLicense: {said}\n").expression == expression


def test_all_licences_of_a_copyright_file_count_each_once():
    text = f"""{DEP5}
Files: *
Copyright: somebody
License: GPL-2+
 See elsewhere.

Files: a b
License: odd

Files: debian/*
License: GPL-2+

License: odd
 Do what
 .
 you want.

License: MPL-2.0
 Of no file.
"""
    found = of_copyright(text)
    (odd,) = found.texts
    assert found.expression == f"GPL-2.0-or-later AND {odd.id}"
    assert odd.text == "Do what\n\nyou want."


@pytest.mark.parametrize(
    "text",
    ["", "It was packaged by somebody.\n\nLicense: GPL-2\n", DEP5, f"{DEP5}\nFiles: *\n", "\x00" * 100],
)
def test_a_copyright_file_for_people_alone_says_nothing(text):
    assert of_copyright(text) is None


def test_a_package_whose_documents_are_anothers_has_its_licence(tmp_path):
    """Debian policy, 12.5."""
    document = {"usr/share/doc/base/copyright": f"{DEP5}\nFiles: *\nLicense: ISC\n".encode()}
    deb(tmp_path / "base_1_amd64.deb", document)
    deb(tmp_path / "lib_1_amd64.deb", {"usr/lib/a": b"a"}, {"usr/share/doc/lib": "base"})
    deb(tmp_path / "lone_1_amd64.deb", {"usr/lib/b": b"b"}, {"usr/share/doc/lone": "gone"})
    paths = [(name, tmp_path / f"{name}_1_amd64.deb") for name in ("base", "lib", "lone")]
    found = of_debs([Deb(name, path, sha256_of(path)) for name, path in paths], tmp_path / "cache")
    assert {name: one.expression for name, one in found.items()} == {"base": "ISC", "lib": "ISC"}


def test_a_package_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "some-1-py3-none-any.whl"
    wheel(path, {"some.py": ""})
    assert of_wheel(path, "a" * 64, tmp_path / "cache") is None
    monkeypatch.setattr(licences, "_read_wheel", lambda _: pytest.fail("it is read again"))
    assert of_wheel(path, "a" * 64, tmp_path / "cache") is None


@pytest.mark.parametrize("data", [b"no archive", b"PK\x03\x04" + bytes(50)])
def test_what_is_no_wheel_is_told(tmp_path, data):
    path = tmp_path / "some-1-py3-none-any.whl"
    path.write_bytes(data)
    with pytest.raises(FetchError, match="not a wheel"):
        of_wheel(path, "a" * 64, tmp_path / "cache")


def test_a_wheel_whose_metadata_is_packed_wrongly_is_told(tmp_path):
    path = tmp_path / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("some-1.dist-info/METADATA", "Name: some\n" * 100)
    data = bytearray(path.read_bytes())
    begin = 30 + len("some-1.dist-info/METADATA")
    data[begin : begin + 4] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(FetchError, match="not a wheel"):
        of_wheel(path, "a" * 64, tmp_path / "cache")


def test_metadata_without_end_is_read_in_part(tmp_path):
    path = tmp_path / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("some-1.dist-info/METADATA", metadata("License: MIT", "Summary: " + "a" * (8 << 20)))
    assert of_wheel(path, "a" * 64, tmp_path / "cache").expression == "MIT"


@pytest.mark.parametrize(
    ("head", "expression"),
    [
        ("license: apache-2.0", "Apache-2.0"),
        ('tags:\n- a\nlicense: "mit"\n', "MIT"),
        ("tags: [a]", None),
        ("license: [mit, isc]", None),
    ],
)
def test_the_head_of_a_readme_says_a_repositorys(head, expression):
    found = of_readme(f"---\n{head}\n---\n# license: gpl-3.0\n")
    assert (found.expression if found else None) == expression


def test_a_licence_of_a_makers_own_keeps_its_name():
    (text,) = of_readme("---\nlicense: other\nlicense_name: llama9\n---\n").texts
    assert text.name == "llama9"
    assert of_readme("no head") is None


def test_wherever_it_is_read_a_path_is_only_read(tmp_path):
    """Of what is named in a package, nothing is opened on this machine."""
    secret = tmp_path / "secret"
    secret.write_text(f"{DEP5}\nFiles: *\nLicense: ISC\n")
    path = tmp_path / "bad_1_amd64.deb"
    deb(path, {}, {"usr/share/doc/bad": str(secret), "usr/share/doc/x/copyright": str(secret)})
    assert of_debs([Deb("bad", Path(path), sha256_of(path))], tmp_path / "cache") == {}
