"""What a build misses and the model's folder has."""

from pathlib import Path

import pytest

from tungstenkit.lock.parts import Choice
from tungstenkit.nix_build.left_out import with_better_hint
from tungstenkit.resolve.opened import missing_programs
from tungstenkit.sdk.errors import BuildError
from tungstenkit.spec.files import ModelFile

SHIPPED = [ModelFile("tungsten_model.py", "file"), ModelFile("there/__init__.py", "file")]


@pytest.fixture
def folder(tmp_path):
    for name in ("helpers.py", "package/__init__.py", "package/inner.py", "weights.bin", "there/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def problem(kind, what="whatever it says", **told):
    return BuildError(what, where="line 1", hint="another", told={"kind": kind, **told})


@pytest.mark.parametrize(
    ("kind", "told", "name"),
    [
        ("missing-module", "helpers", "helpers.py"),
        ("missing-module", "package", "package/__init__.py"),
        ("missing-module", "package.inner", "package/inner.py"),
        ("import-fails", "/app/weights.bin", "weights.bin"),
        ("import-fails", "weights.bin", "weights.bin"),
    ],
)
def test_a_file_that_does_not_ship_is_named(folder, kind, told, name):
    error = with_better_hint(problem(kind, name=told), folder, SHIPPED, [])
    assert (error.what, error.where) == ("whatever it says", "line 1")
    assert error.hint.startswith(f"{name} lies in the model's folder")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("missing-module", "numpy"),
        ("missing-module", "there"),
        ("anything-else", "helpers"),
        ("import-fails", ""),
        ("import-fails", "/etc/weights.bin"),
    ],
)
def test_other_problems_stay_as_they_are(folder, kind, name):
    error = problem(kind, name=name)
    assert with_better_hint(error, folder, SHIPPED, []) is error


def test_words_alone_are_not_read(folder):
    for what in (
        "there is no module helpers",
        "the shared library libzz.so.3 is missing",
        "the import fails:",
    ):
        error = BuildError(what)
        assert with_better_hint(error, folder, SHIPPED, []) is error


def test_a_library_that_was_left_out_on_purpose_is_told_so(folder):
    chosen = Choice(
        kind="library", subject="zz needs libzz.so.3", chosen="nothing", reason="somebody says so"
    )
    error = problem("missing-library", name="libzz.so.3")
    assert "locking left it out: somebody says so" in with_better_hint(error, folder, SHIPPED, [chosen]).hint
    added = chosen.model_copy(update={"chosen": "libzz3"})
    assert with_better_hint(error, folder, SHIPPED, [added]) is error


def test_a_file_that_post_build_makes_must_not_lie_in_the_folder_too(folder):
    twice = problem("in-both", path="/app/weights.bin")
    hint = with_better_hint(twice, folder, SHIPPED, []).hint
    assert 'exclude_files=[".*", "__pycache__/", "*.py[cod]", "/weights.bin"]' in hint
    hint = with_better_hint(twice, folder, SHIPPED, [], exclude=[".*", "a/"]).hint
    assert 'exclude_files=[".*", "a/", "/weights.bin"]' in hint
    elsewhere = problem("in-both", path="/usr/bin/x")
    assert with_better_hint(elsewhere, folder, SHIPPED, []) is elsewhere


def test_a_program_that_a_package_starts_is_named_where_its_import_fails():
    starts = [*missing_programs(["graphviz", "gitpython"], {"graphviz"})]
    told = {"kind": "import-fails", "name": ""}
    error = BuildError("ImportError: Bad git executable.", told=told)
    error = with_better_hint(error, Path(), SHIPPED, [], starts=starts)
    assert error.hint == "add 'git' to system_packages, and run `tungsten lock`: gitpython starts it"
    for other in (BuildError("ImportError: digits", told=told), BuildError("another step of git's fails")):
        assert with_better_hint(other, Path(), SHIPPED, [], starts=starts).hint is None
