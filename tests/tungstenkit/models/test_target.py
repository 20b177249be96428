"""From a model's name to the program of its server, and what is said on the way."""

import shutil

import pytest

from tests import generate
from tests.tungstenkit.observers import Told
from tungstenkit.models.target import Target
from tungstenkit.run.address import Address
from tungstenkit.sdk.errors import RunError


@pytest.fixture
def example(tmp_path):
    """The folder of a copy of one."""

    def make(name):
        folder = tmp_path / name
        return shutil.copytree(
            generate.ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(".tungsten")
        )

    return make


@pytest.fixture
def told():
    return Told()


def test_a_folder_that_is_served_as_it_is_has_nothing_of_post_build(example, tmp_path, told, monkeypatch):
    monkeypatch.setattr("tungstenkit.run.local.local_program", lambda *_, **__: None)
    run_folder(example("iris"), tmp_path, local=True, gpus=None, watch=told)
    (said,) = told.warnings
    assert "--local does not run post_build" in said
    assert "from tungsten_model import Iris as M; M.post_build()" in said


@pytest.fixture
def unengined(monkeypatch):
    """A machine without podman and docker, on which roots need not be built; what was run in one."""
    run = []
    monkeypatch.setattr("tungstenkit.nix_build.engine.find_engine", lambda: None)
    monkeypatch.setattr("tungstenkit.project.making.make_root", lambda project: ("layout", "parts"))
    monkeypatch.setattr("tungstenkit.run.image_root.root_program", lambda *given: run.append(given))
    monkeypatch.setattr("tungstenkit.store.hold", lambda *_: None)
    return run


def run_folder(target, scratch, **given):
    return Target(str(target), **given).program(Address("127.0.0.1", 1), ["--x"], scratch)


def test_without_an_engine_a_folder_runs_in_its_images_root_and_that_is_told(
    example, tmp_path, unengined, told, monkeypatch
):
    monkeypatch.setenv("TUNGSTEN_MAX_PENDING", "7")
    held = []
    monkeypatch.setattr("tungstenkit.store.hold", lambda *given: held.append(given))
    folder = example("blur")
    run_folder(folder, tmp_path, watch=told)
    (*given, settings) = unengined[0]
    # Whatever becomes of the folder's own link meanwhile.
    assert held == [("parts", tmp_path / "held")]
    assert given == ["layout", "parts", tmp_path, Address("127.0.0.1", 1), ["--x"]]
    assert settings["TUNGSTEN_MAX_PENDING"] == "7"
    assert "PATH" not in settings
    assert "no podman, and no docker" in told.notices.pop()
    run_folder(folder, tmp_path, no_engine=True, watch=told)
    assert len(unengined) == 2
    assert told.notices == []


def test_an_engine_that_is_there_is_not_asked_where_none_is_wanted(example, tmp_path, unengined, monkeypatch):
    monkeypatch.setattr("tungstenkit.nix_build.engine.find_engine", lambda: pytest.fail("it was looked for"))
    run_folder(example("blur"), tmp_path, no_engine=True)
    assert len(unengined) == 1


def test_without_an_engine_there_are_no_images_by_name_and_no_gpus(example, tmp_path, unengined):
    with pytest.raises(RunError, match="there is no folder 'blur:1'") as caught:
        run_folder("blur:1", tmp_path)
    assert caught.value.hint == "name the model's folder, whose image is run without one, too"
    folder = example("blur")
    text = (folder / "tungsten_model.py").read_text()
    (folder / "tungsten_model.py").write_text(text.replace("mem_gb=1", "mem_gb=1, gpu=True"))
    with pytest.raises(RunError, match="without an engine there is no GPU") as caught:
        run_folder(folder, tmp_path)
    assert "--no-gpu" in caught.value.hint
    run_folder(folder, tmp_path, gpus=None)
    assert len(unengined) == 1


def test_who_says_a_models_name_is_told_its_folder(alone, engine, tmp_path, monkeypatch):
    folder = alone.model("my-model", title="greeter")
    for engine_here, name in (("podman", "greeter"), (None, "greeter"), (None, "localhost/greeter:latest")):
        monkeypatch.setattr("tungstenkit.nix_build.engine.find_engine", lambda here=engine_here: here)
        with pytest.raises(RunError) as caught:
            run_folder(name, tmp_path)
        assert caught.value.hint == f"that is a model's name: name its folder, {folder}"
