"""`[tool.tungsten.…]` beside a model: read, and refused as a whole with each problem named."""

import os
import re
import tomllib
from pathlib import Path

import pytest

import tungstenkit
from tungstenkit import settings
from tungstenkit.audit import post_build_seen
from tungstenkit.sdk.errors import TungstenError
from tungstenkit.settings import (
    about_settings,
    build_settings,
    check_names,
    compression_setting,
    index_settings,
    keep_inputs_setting,
    library_settings,
    lock_file_setting,
    nix_setting,
    nixpkgs_settings,
    to_paste,
)


def test_without_a_file_or_a_table_there_is_nothing(tmp_path):
    assert library_settings(tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert library_settings(tmp_path) == {}


@pytest.mark.parametrize(("text", "expected"), [("", False), ("keep-inputs = true", True)])
def test_a_push_may_keep_inputs(tmp_path, text, expected):
    (tmp_path / "pyproject.toml").write_text(f"[tool.tungsten]\n{text}\n")
    check_names(tmp_path)
    assert keep_inputs_setting(tmp_path) is expected


@pytest.mark.parametrize("value", ['"yes"', "1", "[]"])
def test_what_is_neither_true_nor_false_is_told(tmp_path, value):
    (tmp_path / "pyproject.toml").write_text(f"[tool.tungsten]\nkeep-inputs = {value}\n")
    with pytest.raises(TungstenError, match=r"keep-inputs: .* is neither true nor false"):
        keep_inputs_setting(tmp_path)


def test_a_library_has_a_package_or_none(tmp_path):
    text = '[tool.tungsten.libraries]\n"libGL.so.1" = "libgl1"\n"libxcb-icccm.so.4" = false\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert library_settings(tmp_path) == {"libGL.so.1": "libgl1", "libxcb-icccm.so.4": False}


def test_a_byte_order_mark_counts_for_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes(
        b'\xef\xbb\xbf[tool.tungsten.libraries]\r\n"libGL.so.1" = "libgl1"\r\n'
    )
    assert library_settings(tmp_path) == {"libGL.so.1": "libgl1"}


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    text = '[tool.tungsten.libraries]\nGL = "libgl1"\n"liba.so" = true\n"libb.so" = ""\n"libc.so" = ["x"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(TungstenError) as caught:
        library_settings(tmp_path)
    assert caught.value.what.splitlines() == [
        "'GL' is not the name of a shared library, such as libGL.so.1",
        "liba.so: True is neither a Debian package nor false",
        "libb.so: '' is neither a Debian package nor false",
        "libc.so: ['x'] is neither a Debian package nor false",
    ]
    assert "pyproject.toml" in caught.value.where


def test_what_no_setting_is_called_is_told_with_what_is_near(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        "[tool.tungsten]\nbig-files-mb = 9\nzzz = 1\n[tool.tungsten.post_build]\n[tool.tungsten.build]\n"
    )
    with pytest.raises(TungstenError) as caught:
        check_names(tmp_path)
    assert caught.value.what.splitlines() == [
        "'big-files-mb' is no setting; did you mean 'big-file-mb'?",
        "'post_build' is no setting; did you mean 'post-build'?",
        "'zzz' is no setting",
    ]
    names = "big-file-mb, build, compression, indexes, keep-inputs, libraries, lock, mirrors, nix, nixpkgs, post-build"
    assert caught.value.hint == f"it has {names}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            'requires = ["ninja"]',
            "'requires' stands in no table; it belongs below [tool.tungsten.build.NAME]",
        ),
        (
            '[tool.tungsten]\ndebs = ["x"]',
            "'debs' is no setting; it belongs below [tool.tungsten.build.NAME]",
        ),
        ("missing = 403", "'missing' stands in no table; it belongs below [tool.tungsten.indexes.NAME]"),
    ],
)
def test_a_line_that_was_pasted_without_its_table_is_told_where_it_belongs(tmp_path, text, what):
    (tmp_path / "pyproject.toml").write_text(f"{text}\n[project]\nrequires = []\n")
    with pytest.raises(TungstenError) as caught:
        check_names(tmp_path)
    assert caught.value.what.startswith(what)


@pytest.mark.parametrize(
    ("read", "text", "what"),
    [
        (build_settings, "[tool.tungsten.build]\nrequires = ['x']", "below [tool.tungsten.build.NAME]"),
        (index_settings, "[tool.tungsten.indexes]\nmissing = 403", "below [tool.tungsten.indexes.NAME]"),
    ],
)
def test_so_is_one_in_the_table_above(tmp_path, read, text, what):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(TungstenError) as caught:
        read(tmp_path)
    assert what in caught.value.what


def test_a_table_that_was_pasted_twice_is_told_how_it_becomes_one(tmp_path):
    table = "[tool.tungsten.build.foo]\n"
    (tmp_path / "pyproject.toml").write_text(f"{table}debs = []\n{table}requires = []\n")
    with pytest.raises(TungstenError, match="twice") as caught:
        build_settings(tmp_path)
    assert caught.value.hint == "a table stands there once: put the lines of the second one below the first"


@pytest.mark.parametrize(("name", "keys"), [("foo-bar", ("foo-bar",)), ("a.b", ("a.b",)), ("", ())])
def test_a_setting_is_said_so_that_it_can_be_pasted(name, keys):
    found = tomllib.loads(to_paste("build", name, "debs = []").partition("\n")[2])
    for key in ("tool", "tungsten", "build", *keys):
        found = found[key]
    assert found == {"debs": []}


def test_all_that_is_read_is_a_setting(tmp_path):
    """Whatever asks for a table asks for one that may be there."""
    sources = "".join(path.read_text() for path in Path(tungstenkit.__file__).parent.rglob("*.py"))
    asked = set(re.findall(r'read_table\([^,]+, "([a-z-]+)"', sources)) | {post_build_seen.TABLE}
    assert {*asked, "big-file-mb", "compression", "keep-inputs", "lock"} == settings._NAMES
    check_names(tmp_path)


@pytest.mark.parametrize("text", ["[tool.tungsten]\nlibraries = 1\n", "[tool\n", "tool = 1\n"])
def test_another_form_is_refused(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(TungstenError, match=r"\[tool.tungsten.libraries\] can't be read"):
        library_settings(tmp_path)


def test_layers_are_compressed_in_one_of_two_ways(tmp_path):
    assert compression_setting(tmp_path) == "gzip"
    (tmp_path / "pyproject.toml").write_text('[tool.tungsten]\ncompression = "zstd"\n')
    assert compression_setting(tmp_path) == "zstd"
    (tmp_path / "pyproject.toml").write_text('[tool.tungsten]\ncompression = "xz"\n')
    with pytest.raises(TungstenError, match="'xz' is neither gzip nor zstd"):
        compression_setting(tmp_path)


def test_what_a_project_says_of_itself_is_said_of_its_image(tmp_path):
    assert about_settings(tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("""
        [project]
        name = "blur"
        dynamic = ["readme"]
        version = "1.2"
        description = "Blurs pictures"
        license = "MIT"
        authors = [{name = "A", email = "a@example.org"}, {email = "b@example.org"}]
        [project.urls]
        "Home-Page" = "https://example.org"
        Source = "https://git.example.org/blur"
        Repository = "https://git.example.org/other"
        Funding = "https://example.org/money"
    """)
    assert about_settings(tmp_path) == {
        "version": "1.2",
        "description": "Blurs pictures",
        "licenses": "MIT",
        "authors": "A, b@example.org",
        "url": "https://example.org",
        "source": "https://git.example.org/blur",
    }
    (tmp_path / "pyproject.toml").write_text('[project]\nlicense = {file = "LICENSE"}\n')
    assert about_settings(tmp_path) == {}


def test_what_a_project_can_not_say_of_itself_is_told_at_once(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nversion = 1\ndescription = "a\\u001b[2J"\nlicense = ["MIT"]\nauthors = [1]\n'
        "[project.urls]\nsource = 3\n"
    )
    with pytest.raises(TungstenError) as caught:
        about_settings(tmp_path)
    assert caught.value.what.splitlines() == [
        "version: is no text",
        "description: holds a control character",
        "licenses: is no text",
        "source: is no text",
        "authors: is no text",
    ]


def test_a_lock_file_is_in_the_models_folder(tmp_path):
    assert lock_file_setting(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text('[tool.tungsten]\nlock = "./locks/uv.lock"\n')
    assert lock_file_setting(tmp_path) == "locks/uv.lock"
    for value, what in (
        ("3", "not the path"),
        ('""', "not the path"),
        ('"../uv.lock"', "not in the model's folder"),
    ):
        (tmp_path / "pyproject.toml").write_text(f"[tool.tungsten]\nlock = {value}\n")
        with pytest.raises(TungstenError, match=what):
            lock_file_setting(tmp_path)


def test_a_name_of_apts_has_attributes_of_nixpkgs(tmp_path):
    assert nixpkgs_settings(tmp_path) == {}
    text = '[tool.tungsten.nixpkgs]\n"libx11-6" = ["xorg.libX11"]\nnothing = []\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert nixpkgs_settings(tmp_path) == {"libx11-6": ["xorg.libX11"], "nothing": []}


def test_what_can_be_no_attribute_is_refused_all_at_once(tmp_path):
    text = '[tool.tungsten.nixpkgs]\na = "git"\nb = ["git", 1]\nc = ["x; y"]\nd = ["git"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(TungstenError) as caught:
        nixpkgs_settings(tmp_path)
    assert [line[:2] for line in caught.value.what.splitlines()] == ["a:", "b:", "c:"]


def test_a_nix_is_ours_or_the_machines(tmp_path):
    assert nix_setting(tmp_path) == ""
    for use in ("own", "machine"):
        (tmp_path / "pyproject.toml").write_text(f'[tool.tungsten.nix]\nuse = "{use}"\n')
        assert nix_setting(tmp_path) == use


def test_no_repository_names_a_program(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.tungsten.nix]\nuse = "/tmp/nix"\npath = "/tmp/nix"\n')
    with pytest.raises(TungstenError) as caught:
        nix_setting(tmp_path)
    assert caught.value.what.splitlines() == [
        "path: no such key",
        "use: '/tmp/nix' is neither own nor machine",
    ]
    assert 'use = "own"' in caught.value.hint


def test_an_index_has_a_url_and_what_is_said_of_it(tmp_path):
    text = (
        '[tool.tungsten.indexes.team]\nurl = "https://h.example/simple/"\nprojects = ["a", "b-*"]\nmissing = 403\n'
        "[tool.tungsten.indexes.machine]\nmissing = 403\n"
    )
    (tmp_path / "pyproject.toml").write_text(text)
    assert index_settings(tmp_path) == {
        "team": {"url": "https://h.example/simple", "projects": ["a", "b-*"], "missing": 403},
        "machine": {"missing": 403},
    }


def test_all_that_is_wrong_with_indexes_is_said_at_once(tmp_path):
    text = (
        '[tool.tungsten.indexes.a]\nurl = "https://me:secret@h.example/x"\nmissing = 500\n'
        '[tool.tungsten.indexes.b]\nprojects = "c"\nurls = 1\n'
        '[tool.tungsten.indexes.machine]\nurl = "https://h.example"\n'
        '[tool.tungsten.indexes."x y"]\n[tool.tungsten.indexes]\nd = 1\n'
    )
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(TungstenError) as caught:
        index_settings(tmp_path)
    assert caught.value.what.splitlines() == [
        "a.url: holds a user name",
        "a.missing: is no status from 400 to 499",
        "b.urls: no such key",
        "b.url: is missing, or no string",
        "b.projects: is no list of names",
        "machine.url: that index is the one which this machine's client uses",
        "'x y' is no name of letters, digits, `.`, `_` and `-`",
        "d: is no table",
    ]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "deep"])
def test_what_never_ends_is_no_file_of_settings(tmp_path, kind):
    path = tmp_path / "pyproject.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("#" * ((1 << 24) + 1) if kind == "large" else "a = " + "[" * 100_000)
    with pytest.raises(TungstenError, match=r"\[tool.tungsten.libraries\] can't be read"):
        library_settings(tmp_path)
