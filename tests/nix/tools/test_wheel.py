"""Wheels are installed as the binary distribution format says, or refused with the wheel's and the member's name."""

import base64
import csv
import hashlib
import io
import json
import random
import stat
import unicodedata
import zipfile
from pathlib import Path

import pytest

from tests.binaries import unpack

SITE = "usr/local/lib/python3.11/dist-packages"


@pytest.fixture
def facts_of(tmp_path, run_tool):
    """What `wheel_facts.py` says of wheels; of one, not in a list."""
    count = iter(range(1000))

    def facts(*wheels):
        out = tmp_path / f"facts-{next(count)}.json"
        config = {"wheels": [{key: wheel[key] for key in ("path", "file")} for wheel in wheels]}
        result = run_tool("wheel_facts.py", config, out)
        assert (result.returncode, result.stderr) == (0, "")
        found = json.loads(out.read_text())
        return found if len(wheels) > 1 else found[0]

    return facts


def test_files_go_where_the_format_says(make_wheel, make_layer):
    wheel = make_wheel(
        "Pkg_a",
        {
            "pkg/__init__.py": b"x = 1\n",
            "Pkg_a-1.0.data/purelib/pure.py": b"",
            "Pkg_a-1.0.data/platlib/plat.so": b"so",
            "Pkg_a-1.0.data/scripts/run": b"#!python -u\nprint()\n",
            "Pkg_a-1.0.data/scripts/shell": b"#!/bin/sh\n",
            "Pkg_a-1.0.data/data/share/pkg/table": b"t",
            "Pkg_a-1.0.data/headers/pkg.h": b"h",
        },
    )
    layer = make_layer(wheel)
    members = layer.members()
    assert {
        f"{SITE}/pkg/__init__.py",
        f"{SITE}/pure.py",
        f"{SITE}/plat.so",
        "usr/local/share/pkg/table",
        "usr/local/include/python3.11/Pkg_a/pkg.h",
    } <= set(members)
    assert layer.read("usr/local/bin/run") == b"#!/usr/bin/python3.11\nprint()\n"
    assert layer.read("usr/local/bin/shell") == b"#!/bin/sh\n"
    assert members["usr/local/bin/run"].mode == members["usr/local/bin/shell"].mode == 0o755
    assert layer.entry("usr/local/bin/run")["package"] == "Pkg_a-1.0-py3-none-any.whl"


@pytest.mark.parametrize("splice", [False, True])
def test_data_files_are_where_python_says_its_prefix_is_too(make_wheel, make_layer, splice):
    """As in a virtual environment; a second name of the file, and no second copy."""
    content = random.Random(1).randbytes(1 << 20)
    wheel = make_wheel(
        "pkg",
        {
            "pkg-1.0.data/data/share/jupyter/x": content,
            "pkg-1.0.data/data/etc/jupyter/y": b"",
            "pkg-1.0.data/data/bin/tool": b"#!/bin/sh\n",
            "pkg-1.0.data/data/lib/libx.so": b"",
            "pkg-1.0.data/scripts/run": b"#!/bin/sh\n",
            "pkg/a.py": b"",
        },
    )
    plain = make_layer({**wheel, "splice": splice})
    layer = make_layer({**wheel, "sys-prefix": "usr", "splice": splice})
    more = layer.members().keys() - plain.members().keys()
    folders = {"usr/etc", "usr/etc/jupyter", "usr/share", "usr/share/jupyter"}
    assert more == folders | {"usr/etc/jupyter/y", "usr/share/jupyter/x"}
    link = layer.members()["usr/share/jupyter/x"]
    assert (link.islnk(), link.linkname) == (True, "usr/local/share/jupyter/x")
    assert layer.entry("usr/share/jupyter/x")["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(layer.blob) - len(plain.blob) < len(content) / 10


def test_modes_come_from_the_executable_bit(make_wheel, make_layer):
    wheel = make_wheel("pkg", {"pkg/tool": b"", "pkg/data": b""}, executable=("pkg/tool",))
    members = make_layer(wheel).members()
    assert members[f"{SITE}/pkg/tool"].mode == 0o755
    assert members[f"{SITE}/pkg/data"].mode == 0o644
    assert {(info.uid, info.gid) for info in members.values()} == {(0, 0)}


def test_entry_points_become_scripts(make_wheel, make_layer):
    text = (
        b"[console_scripts]\nCmd = pkg.cli:app.main [extra]\n\n[gui_scripts]\ngui=pkg:gui\n[other]\nx = y:z\n"
    )
    layer = make_layer(make_wheel("pkg", {"pkg-1.0.dist-info/entry_points.txt": text}))
    script = layer.read("usr/local/bin/Cmd").decode()
    assert script.startswith("#!/usr/bin/python3.11\n")
    assert "from pkg.cli import app\n" in script
    assert "sys.exit(app.main())" in script
    compile(script, "Cmd", "exec")
    assert layer.members()["usr/local/bin/gui"].mode == 0o755
    assert "usr/local/bin/x" not in layer.members()


def test_record_and_installer_are_written(make_wheel, make_layer):
    """RECORD lists what was installed, sorted, relative to the site folder, scripts included."""
    wheel = make_wheel(
        "pkg", {"pkg/a.py": b"a = 1\n", "pkg-1.0.dist-info/entry_points.txt": b"[console_scripts]\nc = p:q\n"}
    )
    layer = make_layer(wheel)
    assert layer.read(f"{SITE}/pkg-1.0.dist-info/INSTALLER") == b"tungsten\n"
    rows = list(csv.reader(io.StringIO(layer.read(f"{SITE}/pkg-1.0.dist-info/RECORD").decode())))
    assert rows == sorted(rows)
    listed = {row[0]: row for row in rows}
    installed = {
        str(Path(name).relative_to(SITE))
        if name.startswith(SITE)
        else f"../../../{Path(name).relative_to('usr/local')}"
        for name, info in layer.members().items()
        if info.isreg()
    }
    assert set(listed) == installed
    assert listed["../../../bin/c"][1].startswith("sha256=")
    assert listed["pkg-1.0.dist-info/RECORD"][1:] == ["", ""]


def test_installed_wheel_is_understood_by_importlib(make_wheel, make_layer, tmp_path):
    """The standard library verifies what we wrote: every file of RECORD is there with its size and hash."""
    import base64
    import hashlib
    import importlib.metadata
    import tarfile

    layer = make_layer(make_wheel("pkg", {"pkg/a.py": b"a = 1\n", "pkg-1.0.data/scripts/s": b"#!python\n"}))
    with tarfile.open(layer.path / "blob") as archive:
        unpack(archive, tmp_path / "root")
    (found,) = importlib.metadata.distributions(path=[str(tmp_path / "root" / SITE)])
    for file in found.files:
        data = file.locate().read_bytes()
        if file.hash:
            assert base64.urlsafe_b64decode(file.hash.value + "=") == hashlib.sha256(data).digest()
            assert file.size == len(data)


EMPTY = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


@pytest.mark.parametrize("splice", [False, True])
def test_record_is_verified(make_wheel, layer_error, splice):
    wheel = make_wheel("pkg", {"pkg/a.py": b"a = 1\n"}, record={"pkg/a.py": f"{EMPTY},6"})
    error = layer_error({**wheel, "splice": splice})
    assert error.startswith("pkg-1.0-py3-none-any.whl: pkg/a.py: its hash is not the one")


@pytest.mark.parametrize("splice", [False, True])
def test_a_record_of_other_sizes_is_not_believed(make_wheel, make_layer, facts_of, splice):
    """pynvvideocodec 2.0.4, which vllm needs, was stripped after its RECORD was written. pip takes it."""
    files = {"pkg/a.py": b"a = 1\n", "pkg/b.py": b"b = 1\n"}
    plain = make_wheel("pkg", files)
    wheel = make_wheel("pkg", files, record={"pkg/a.py": f"{EMPTY},7", "pkg/b.py": f"{EMPTY},6"})
    record = f"{SITE}/pkg-1.0.dist-info/RECORD"
    wanted = make_layer({**plain, "splice": splice}).read(record)
    assert make_layer({**wheel, "splice": splice}).read(record) == wanted
    (note,) = facts_of(wheel)["notes"]
    assert note.startswith("its RECORD gives 1 of its 5 files another size, such as pkg/a.py: ")
    assert facts_of(wheel)["files"] == facts_of(plain)["files"]


@pytest.mark.parametrize("other", ["pkg-1.0.dist-info/RECORD.jws", "pkg-0.9.dist-info/METADATA"])
def test_the_size_of_what_is_not_installed_says_nothing(make_wheel, facts_of, layer_error, other):
    """RECORD can't know its signature, which is made of it: the rest of it is held to."""
    files = {"pkg/a.py": b"a = 1\n", other: b"{}"}
    wheel = make_wheel("pkg", files, record={other: f"{EMPTY},7"})
    assert not [note for note in facts_of(wheel)["notes"] if "another size" in note]
    wheel = make_wheel("pkg", files, record={other: f"{EMPTY},7", "pkg/a.py": f"{EMPTY},6"})
    assert "pkg/a.py: its hash is not the one" in layer_error(wheel)


@pytest.mark.parametrize(
    "row", ["MISSING", ",", ",6", "", "md5=1B2M2Y8AsgTpgAmY7PhCfg,6", "one,two,three", "sha256=\u00e9,x"]
)
@pytest.mark.parametrize("splice", [False, True])
def test_what_record_does_not_say_is_found_out(make_wheel, make_layer, facts_of, row, splice):
    """As pip does; and the RECORD that is installed says it."""
    wheel = make_wheel("pkg", {"pkg/a.py": b"a = 1\n"}, record={"pkg/a.py": row})
    layer = make_layer({**wheel, "splice": splice})
    digest = hashlib.sha256(b"a = 1\n").digest()
    assert layer.entry(f"{SITE}/pkg/a.py")["sha256"] == digest.hex()
    assert f"pkg/a.py,sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},6\n" in layer.read(
        f"{SITE}/pkg-1.0.dist-info/RECORD"
    ).decode().replace("\r", "")
    assert facts_of(wheel)["notes"] == ["its RECORD does not say what 1 of its 4 files are, such as pkg/a.py"]


@pytest.mark.parametrize("written", ["/pkg/a.py", "./pkg/a.py", "pkg\\a.py"])
def test_names_of_record_that_are_written_otherwise_are_understood(
    make_wheel, layer_error, facts_of, written
):
    """selenium 4.1.0 has them absolute. What RECORD says of them counts."""

    def record(content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        return {"pkg/a.py": "MISSING", "nothing": f",\n{written},sha256={digest},6"}

    good = make_wheel("pkg", {"pkg/a.py": b"a = 1\n"}, record=record(b"a = 1\n"))
    assert facts_of(good) == {
        "problem": "",
        "files": facts_of(make_wheel("pkg", {"pkg/a.py": b"a = 1\n"}))["files"],
        "notes": [f"its RECORD writes the names of 1 of its 4 files otherwise, such as {written}"],
    }
    bad = make_wheel("pkg", {"pkg/a.py": b"a = 1\n"}, record=record(b"b = 1\n"))
    assert "pkg/a.py: its hash is not the one" in layer_error(bad)


def test_names_in_another_unicode_form_are_understood(make_wheel, make_layer, facts_of):
    """A wheel of a Mac: the archive has the name in pieces, and RECORD whole. The archive's counts, as with pip."""
    pieces, whole = (unicodedata.normalize(form, "pkg/caf\u00e9.txt") for form in ("NFD", "NFC"))
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x").digest()).decode().rstrip("=")
    wheel = make_wheel(
        "pkg", {pieces: b"x"}, record={pieces: "MISSING", "nothing": f",\n{whole},sha256={digest},1"}
    )
    members = make_layer(wheel).members()
    assert f"{SITE}/{pieces}" in members
    assert f"{SITE}/{whole}" not in members
    assert facts_of(wheel)["notes"] == [
        f"its RECORD writes the names of 1 of its 4 files otherwise, such as {whole}"
    ]


def add_folders(path, folders):
    """Add folders to a wheel: name, Unix mode, attributes of DOS, content."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, mode, attributes, content in folders:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16 | attributes
            archive.writestr(info, content)


def test_folders_of_the_archive_are_not_files(make_wheel, make_layer, facts_of):
    """pip makes none for their own sake."""
    wheel = make_wheel("pkg", {"pkg/a.py": b""}, record={"nothing": ",\npkg/,,"})
    plain = make_layer(wheel)
    add_folders(
        wheel["path"],
        [
            ("pkg/", stat.S_IFDIR | 0o700, 0x10, b""),
            ("empty/", 0, 0, b""),
            ("unix", stat.S_IFDIR | 0o755, 0, b""),
            ("dos", 0, 0x10, b""),
        ],
    )
    layer = make_layer(wheel)
    assert layer.blob == plain.blob
    assert facts_of(wheel)["notes"] == []
    add_folders(wheel["path"], [("odd", stat.S_IFDIR | 0o755, 0, b"content")])
    assert "odd: is not a regular file" in facts_of(wheel)["problem"]


def test_a_file_that_is_a_folder_too_is_refused(make_wheel, layer_error):
    failed = layer_error(make_wheel("pkg", {"pkg": b"", "pkg/sub/a.py": b""}))
    assert failed == "pkg-1.0-py3-none-any.whl: pkg: is a file, and a folder with sub/a.py in it"


def test_of_two_dist_infos_that_of_the_file_name_counts(make_wheel, make_layer, facts_of):
    """Two would be two installed projects of one name."""
    wheel = make_wheel("pkg", {"pkg-0.9.dist-info/METADATA": b"Name: pkg\nVersion: 0.9\n"})
    names = list(make_layer(wheel).members())
    assert f"{SITE}/pkg-1.0.dist-info/METADATA" in names
    assert not any("pkg-0.9" in name for name in names)
    assert facts_of(wheel)["notes"] == ["pkg-0.9.dist-info is left out, which is of another version"]


@pytest.mark.parametrize("other", ["other-1.0", "Pkg-1.0"])
def test_dist_infos_that_can_not_be_told_apart_are_refused(make_wheel, facts_of, other):
    wheel = make_wheel("pkg", {f"{other}.dist-info/METADATA": b""})
    wheel["file"] = "pkg-1.0.0-py3-none-any.whl"
    problem = facts_of(wheel)["problem"]
    assert problem in (
        "pkg-1.0.0-py3-none-any.whl: its metadata is that of other-1.0",
        "pkg-1.0.0-py3-none-any.whl: has 2 .dist-info folders: Pkg-1.0.dist-info, pkg-1.0.dist-info",
    )


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o000, 0o200])
def test_what_only_its_owner_may_read_everybody_may(make_wheel, make_layer, mode):
    wheel = make_wheel("pkg", {"pkg/data": b"", "pkg/tool": b""})

    def make_private(info):
        if info.filename.startswith("pkg/"):
            info.external_attr = (stat.S_IFREG | mode | (0o100 if "tool" in info.filename else 0)) << 16

    rewrite(wheel["path"], make_private)
    members = make_layer(wheel).members()
    assert (members[f"{SITE}/pkg/data"].mode, members[f"{SITE}/pkg/tool"].mode) == (0o644, 0o755)
    assert members[f"{SITE}/pkg"].mode == 0o755


def test_a_file_that_an_image_would_take_for_a_whiteout_is_refused(make_wheel, facts_of):
    problem = facts_of(make_wheel("pkg", {"pkg/.wh.a": b""}))["problem"]
    assert problem.startswith(
        "pkg-1.0-py3-none-any.whl: pkg/.wh.a: in an image, a name that begins with .wh."
    )


def test_a_name_that_no_file_can_have_is_refused(make_wheel, facts_of):
    letters = "\u00e9" * 127
    assert facts_of(make_wheel("pkg", {f"pkg/{letters}a": b""}))["problem"] == ""
    assert "longer name" in facts_of(make_wheel("pkg", {f"pkg/{letters}ab": b""}))["problem"]


def test_facts_are_of_each_wheel_and_name_its_files_places(make_wheel, facts_of):
    text = b"[console_scripts]\ncommand = pkg:main\n"
    good = make_wheel(
        "pkg", {"pkg/a.py": b"", "pkg-1.0.data/data/share/x": b"", "pkg-1.0.dist-info/entry_points.txt": text}
    )
    bad = make_wheel(
        "bad", {"bad/a.py": b"a"}, record={"bad/a.py": "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,1"}
    )
    first, second = facts_of(good, bad)
    info = "{site}/pkg-1.0.dist-info"
    assert set(first["files"]) == {
        "{site}/pkg/a.py",
        "{prefix}/share/x",
        "{prefix}/bin/command",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "INSTALLER", "entry_points.txt")),
    }
    assert first["files"]["{site}/pkg/a.py"] == hashlib.sha256().hexdigest()
    assert second["problem"].startswith("bad-1.0-py3-none-any.whl: bad/a.py: its hash is not the one")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "./a", "a\\b"])
def test_paths_out_of_the_wheel_are_refused(make_wheel, layer_error, name):
    error = layer_error(make_wheel("pkg", {name: b""}))
    assert "is no path inside the wheel" in error


def rewrite(path, change):
    """Write a wheel anew, each member's ZipInfo changed."""
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in members:
            change(info)
            archive.writestr(info, data)


def test_links_are_refused(make_wheel, layer_error):
    wheel = make_wheel("pkg", {"pkg/link": b"/etc/passwd"})

    def make_link(info):
        if info.filename == "pkg/link":
            info.external_attr = (stat.S_IFLNK | 0o777) << 16

    rewrite(wheel["path"], make_link)
    assert "pkg/link: is not a regular file" in layer_error(wheel)


def test_a_member_that_is_there_twice_is_refused(make_wheel, layer_error):
    wheel = make_wheel("pkg", {"pkg/a.py": b""})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(wheel["path"], "a") as archive:
        archive.writestr("pkg/a.py", b"other")
    assert "pkg/a.py: is in the wheel twice" in layer_error(wheel)


def test_metadata_must_be_that_of_the_file_name(make_wheel, layer_error):
    error = layer_error({**make_wheel("pkg", {}), "file": "other-1.0-py3-none-any.whl"})
    assert error == "other-1.0-py3-none-any.whl: its metadata is that of pkg-1.0"


def test_an_unknown_wheel_version_is_refused(make_wheel, layer_error):
    assert "wheel version 1" in layer_error(
        make_wheel("pkg", {"pkg-1.0.dist-info/WHEEL": b"Wheel-Version: 2.0\n"})
    )


def test_an_unknown_data_folder_is_refused(make_wheel, layer_error):
    assert "pkg-1.0.data/odd/x" in layer_error(make_wheel("pkg", {"pkg-1.0.data/odd/x": b""}))


@pytest.mark.parametrize("splice", [False, True])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.95])
def test_a_damaged_wheel_is_named(make_wheel, layer_error, splice, place):
    """A flipped byte in the data, or a file cut short."""
    import random

    wheel = make_wheel("pkg", {"pkg/data": random.Random(1).randbytes(3000) + bytes(3000)})
    data = bytearray(Path(wheel["path"]).read_bytes())
    if place:
        del data[int(len(data) * place) :]
    else:
        data[data.index(b"pkg/data") + 500] ^= 0xFF
    Path(wheel["path"]).write_bytes(data)
    assert layer_error({**wheel, "splice": splice}).startswith("pkg-1.0-py3-none-any.whl: ")


def test_byte_code_alone_goes_with_the_spliced_wheel(make_wheel, make_layer, python):
    """A spliced layer has no byte-code and the other layer has nothing else; together they are the plain layer."""
    wheel = make_wheel("pkg", {"pkg/__init__.py": b"x = 1\n", "pkg/bad.py": b"1 = x\n"})
    spliced = make_layer({**wheel, "splice": True}, python=python)
    code = make_layer({**wheel, "kind": "wheel-byte-code"}, python=python)
    plain = make_layer(wheel, python=python)
    files = [
        {name for name, info in layer.members().items() if info.isreg()} for layer in (spliced, code, plain)
    ]
    assert all(name.endswith(".pyc") for name in files[1])
    assert files[0] | files[1] == files[2]
    assert not files[0] & files[1]
    assert code.files["not-compiled"] == [f"{SITE}/pkg/bad.py"]


def test_byte_code_in_a_wheel_is_left_out(make_wheel, make_layer, python):
    """numpy has shipped some by accident; it is for another path and time than the source has here."""
    wheel = make_wheel("pkg", {"pkg/a.py": b"a = 1\n", "pkg/__pycache__/a.cpython-311.pyc": b"stale"})
    layer = make_layer(wheel)
    assert not [name for name in layer.members() if "__pycache__" in name]
    assert b"__pycache__" not in layer.read(f"{SITE}/pkg-1.0.dist-info/RECORD")


def test_two_wheels_with_one_file(make_wheel, make_layer, layer_error):
    """Equal files are one (namespace packages do that); others are an error unless the later input may override."""
    one = make_wheel("one", {"shared/__init__.py": b"", "tests.py": b"1"})
    two = make_wheel("two", {"shared/__init__.py": b"", "tests.py": b"2"})
    assert "tests.py: in both one-1.0-py3-none-any.whl and two-1.0-py3-none-any.whl" in layer_error(one, two)
    assert make_layer(one, {**two, "override": True}).read(f"{SITE}/tests.py") == b"2"


@pytest.mark.parametrize("splice", [False, True])
def test_what_a_wheel_yields_is_not_in_its_layer(make_wheel, make_layer, python, splice):
    """Wherever the other's layer is: neither its file nor byte-code of it; what it has alone stays."""
    one = make_wheel("one", {"shared/a.py": b"a = 1\n", "shared/only.py": b"b = 1\n"})
    two = make_wheel("two", {"shared/a.py": b"a = 2\n"})
    yielding = {**one, "yields-to": [{key: two[key] for key in ("path", "file")}]}
    layer = make_layer({**yielding, "splice": splice}, python=None if splice else python)
    code = make_layer({**yielding, "kind": "wheel-byte-code"}, python=python)
    names = {Path(name).name for made in (layer, code) for name in made.members() if "/shared/" in name}
    version = python["version"].replace(".", "")
    assert names == {"only.py", "__pycache__", f"only.cpython-{version}.pyc"}


def test_a_spliced_wheel_is_alone(make_wheel, layer_error):
    one, two = make_wheel("one", {}), make_wheel("two", {})
    assert "alone" in layer_error({**one, "splice": True}, two)


@pytest.mark.parametrize(
    "command", [".", "..", "a/b", "a b", "a\x1b[2J", "a\x7f", ".wh.passwd", ".wh..wh..opq", ""]
)
def test_a_command_is_the_name_of_a_file(make_wheel, layer_error, command):
    """Engines refuse an image with another one, or take it for something else."""
    text = f"[console_scripts]\n{command} = p:q\n".encode()
    failed = layer_error(make_wheel("pkg", {"pkg-1.0.dist-info/entry_points.txt": text}))
    assert "pkg-1.0-py3-none-any.whl: pkg-1.0.dist-info/entry_points.txt: cannot" in failed
    assert "\x1b" not in failed


def test_two_dots_in_a_commands_name_are_letters(make_wheel, make_layer):
    text = b"[console_scripts]\n..x = p:q\na.. = p:q\n"
    layer = make_layer(make_wheel("pkg", {"pkg-1.0.dist-info/entry_points.txt": text}))
    assert {"usr/local/bin/..x", "usr/local/bin/a.."} <= set(layer.members())


@pytest.mark.parametrize("letter", ["\n", "\x1b", "\x7f"])
def test_a_members_name_has_no_control_characters(make_wheel, layer_error, letter):
    failed = layer_error(make_wheel("pkg", {f"pkg/a{letter}b.py": b""}, record={}))
    assert "is no path inside the wheel" in failed


def zeros(path, size, member="pkg/zeros"):
    """Add a member of zeros to a wheel, and to its RECORD, which stands anew at its end."""
    info = f"{path.name.split('-py3')[0]}.dist-info"
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as old:
        kept = {name: old.read(name) for name in old.namelist() if name != f"{info}/RECORD"}
        record = old.read(f"{info}/RECORD")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        entry = zipfile.ZipInfo(member)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as file:
            for _ in range(size >> 20):
                digest.update(bytes(1 << 20))
                file.write(bytes(1 << 20))
        encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=")
        archive.writestr(
            f"{info}/RECORD", b"%b,sha256=%b,%d\n" % (member.encode(), encoded, size >> 20 << 20) + record
        )


@pytest.mark.parametrize("member", ["pkg/zeros", "pkg-1.0.dist-info/entry_points.txt"])
def test_a_wheel_does_not_blow_up(make_wheel, layer_error, member):
    """300 MiB of a third of a megabyte: by the wheel's name, before any of it is unpacked."""
    wheel = make_wheel("pkg", {})
    zeros(Path(wheel["path"]), 300 << 20, member)
    assert Path(wheel["path"]).stat().st_size < 1 << 20
    failed = layer_error(wheel)
    assert "pkg-1.0-py3-none-any.whl: unpacks to 314" in failed
    assert "which no wheel does" in failed


@pytest.mark.parametrize("member", ["entry_points.txt", "WHEEL", "RECORD"])
def test_what_describes_a_wheel_is_not_endless(make_wheel, layer_error, member):
    wheel = make_wheel("pkg", {"pkg/a": random.Random(1).randbytes(1 << 20)})
    path = Path(wheel["path"])
    name = f"pkg-1.0.dist-info/{member}"
    with zipfile.ZipFile(path) as old:
        kept = {one: old.read(one) for one in old.namelist() if one != name}
        record = old.read("pkg-1.0.dist-info/RECORD")
    data = (record if member == "RECORD" else b"x") + b"\n" * (33 << 20)
    row = f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},\n"
    if member != "RECORD":
        lines = [line for line in record.decode().splitlines(keepends=True) if not line.startswith(name)]
        kept["pkg-1.0.dist-info/RECORD"] = ("".join(lines) + row).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in {**kept, name: data}.items():
            archive.writestr(one, content)
    assert f"pkg-1.0-py3-none-any.whl: {name}: has 346" in layer_error(wheel)
