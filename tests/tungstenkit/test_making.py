"""Which lock a development shell is made of."""

import shutil

import pytest

from tests import generate
from tungstenkit import shell
from tungstenkit.errors import LockError
from tungstenkit.lock import LOCK_NAME
from tungstenkit.making import make_shell
from tungstenkit.project import Project
from tungstenkit.spec import ModelSpec


@pytest.fixture
def project(tmp_path):
    """Of a copy of an example."""

    def make(name):
        folder = tmp_path / name
        shutil.copytree(generate.ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".tungsten"))
        return Project(folder, ModelSpec.from_json((folder / "spec.json").read_text()))

    return make


def test_a_shell_is_there_while_what_post_build_sees_is_edited(project, monkeypatch):
    """It has nothing of what post_build makes."""
    iris = project("iris")
    (iris.directory / "new.py").write_text("")
    with pytest.raises(LockError, match="post_build sees something else"):
        iris.lock()
    monkeypatch.setattr(shell, "is_current", lambda link, stamp: True)
    assert make_shell(iris) == iris.state / "shell"


def test_a_lock_for_nixpkgs_has_no_shell(project):
    blur = project("blur")
    shutil.copyfile(generate.GOLDEN / "blur" / LOCK_NAME, blur.lock_path)
    with pytest.raises(LockError, match="for the package set nixpkgs") as caught:
        make_shell(blur)
    assert caught.value.hint == "there is a development shell of Debian's packages alone"
