"""What is made of a model's folder, and what is said of it where nothing is made."""

import shutil

import pytest

from tests import generate
from tests.tungstenkit.observers import Told
from tungstenkit.cli.model import Model
from tungstenkit.lock.document import LOCK_NAME
from tungstenkit.project import making
from tungstenkit.project.folder import Project
from tungstenkit.project.making import make_image, make_shell
from tungstenkit.resolve import opened
from tungstenkit.run import shell
from tungstenkit.run.address import Address
from tungstenkit.sdk.errors import LockError
from tungstenkit.spec.document import ModelSpec
from tungstenkit.watch import UNWATCHED


@pytest.fixture
def project(tmp_path):
    """Of a copy of an example."""

    def make(name, watch=UNWATCHED):
        folder = tmp_path / name
        shutil.copytree(generate.ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".tungsten"))
        return Project(folder, ModelSpec.from_json((folder / "spec.json").read_text()), watch)

    return make


def test_a_shell_is_there_while_what_post_build_sees_is_edited(project, monkeypatch):
    """It has nothing of what post_build makes."""
    iris = project("iris")
    with (iris.directory / "tungsten_model.py").open("a") as module:
        module.write("\nNEW = 1\n")
    with pytest.raises(LockError, match="post_build sees something else"):
        iris.checked_lock()
    monkeypatch.setattr(shell, "is_current", lambda link, stamp: True)
    assert make_shell(iris) == iris.state / "shell"


def test_each_build_names_the_programs_that_are_not_there(project, monkeypatch):
    told = Told()
    blur = project("blur", told)
    programs = {"pillow": {"programs": {"git": "for all", "tzdata": "for none"}}}
    monkeypatch.setattr(opened, "_table", lambda: programs)
    monkeypatch.setattr(making, "fetch_inputs", refused)
    for _ in range(2):
        with pytest.raises(LockError, match="far enough"):
            make_image(blur, None, "", "x86_64-linux")
    said = "pillow starts git for all: where you use that, add it to system_packages"
    assert told.notices == [said, said]


def refused(*_):
    raise LockError("far enough")


def test_a_lock_for_nixpkgs_has_no_shell(project):
    blur = project("blur")
    shutil.copyfile(generate.GOLDEN / "blur" / LOCK_NAME, blur.lock_path)
    with pytest.raises(LockError, match="for the package set nixpkgs") as caught:
        make_shell(blur)
    assert (
        caught.value.hint
        == "only Debian's packages have a development shell: `tungsten lock --package-set debian`"
    )


def test_a_folder_that_is_served_as_it_is_has_nothing_of_post_build(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tungstenkit.run.local.local_program", lambda *_, **__: None)
    folder = str(project("iris").directory)
    model = Model(folder, None, None, local=True, gpus=None, engine_args=[], model_python=None, trust=False)
    model.program(Address("127.0.0.1", 1), [], tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "--local does not run post_build" in said
    assert "from tungsten_model import Iris as M; M.post_build()" in said
