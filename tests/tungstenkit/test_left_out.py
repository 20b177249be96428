"""What a build misses and the model's folder has."""

from pathlib import Path

import pytest

from tungstenkit.errors import BuildError
from tungstenkit.files import ModelFile
from tungstenkit.left_out import with_better_hint
from tungstenkit.lock_parts import Choice
from tungstenkit.resolve.libraries import missing_programs

SHIPPED = [ModelFile("tungsten_model.py", "file"), ModelFile("there/__init__.py", "file")]


@pytest.fixture
def folder(tmp_path):
    for name in ("helpers.py", "package/__init__.py", "package/inner.py", "weights.bin", "there/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("there is no module helpers", "helpers.py"),
        ("there is no module package", "package/__init__.py"),
        ("there is no module package.inner", "package/inner.py"),
        (
            "the import fails:\nFileNotFoundError: [Errno 2] No such file or directory: '/app/weights.bin'",
            "weights.bin",
        ),
        (
            "the import fails:\nFileNotFoundError: [Errno 2] No such file or directory: 'weights.bin'",
            "weights.bin",
        ),
    ],
)
def test_a_file_that_does_not_ship_is_named(folder, what, name):
    error = with_better_hint(BuildError(what, where="line 1", hint="another"), folder, SHIPPED, [])
    assert (error.what, error.where) == (what, "line 1")
    assert error.hint.startswith(f"{name} lies in the model's folder")


@pytest.mark.parametrize("what", ["there is no module numpy", "there is no module there", "anything else"])
def test_other_problems_stay_as_they_are(folder, what):
    error = BuildError(what, hint="another")
    assert with_better_hint(error, folder, SHIPPED, []) is error


def test_a_library_that_was_left_out_on_purpose_is_told_so(folder):
    chosen = Choice(
        kind="library", subject="zz needs libzz.so.3", chosen="nothing", reason="somebody says so"
    )
    error = BuildError("the shared library libzz.so.3 is missing", hint="another")
    assert "locking left it out: somebody says so" in with_better_hint(error, folder, SHIPPED, [chosen]).hint
    added = chosen.model_copy(update={"chosen": "libzz3"})
    assert with_better_hint(error, folder, SHIPPED, [added]) is error


def test_a_file_that_post_build_makes_must_not_lie_in_the_folder_too(folder):
    what = "/app/weights.bin: in both what post_build made and tree app (layers 'a' and 'b')"
    hint = with_better_hint(BuildError(what), folder, SHIPPED, []).hint
    assert 'exclude_files=[".*", "__pycache__/", "*.py[cod]", "/weights.bin"]' in hint
    hint = with_better_hint(BuildError(what), folder, SHIPPED, [], exclude=[".*", "a/"]).hint
    assert 'exclude_files=[".*", "a/", "/weights.bin"]' in hint


def test_a_program_that_a_package_starts_is_named_where_its_import_fails():
    starts = [*missing_programs(["graphviz", "gitpython"], {"graphviz"})]
    what = "the import fails:\nImportError: Bad git executable."
    error = with_better_hint(BuildError(what), Path(), SHIPPED, [], starts=starts)
    assert error.hint == "add 'git' to system_packages, and run `tungsten lock`: gitpython starts it"
    for other in ("the import fails:\nImportError: digits", "another step of git's fails"):
        assert with_better_hint(BuildError(other), Path(), SHIPPED, [], starts=starts).hint is None
