"""Templates, tested as examples are: each is a model that works as it is. And how one is written, or not at all."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests import onnx_file
from tests.conftest import MACHINES_OWN
from tests.server.conftest import running_server
from tungstenkit.project import template
from tungstenkit.project.template import TEMPLATES, about, begin, quoted, templates
from tungstenkit.sdk.errors import RunError
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.files import select_files
from tungstenkit.spec.read import read_spec
from tungstenkit.trial.check import try_model


def missing(spec):
    """Packages that the model imports and this Python has not got."""
    found = []
    for name in spec.python_packages:
        try:
            version(name)
        except PackageNotFoundError:
            found.append(name)
    return found


@pytest.mark.parametrize("name", templates())
def test_a_template_is_a_whole_model(name, tmp_path):
    begun = begin(name, tmp_path / "model")
    assert {path.name for path in begun.files} == {path.name for path in (tmp_path / "model").iterdir()}
    spec = read_spec(tmp_path / "model")
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.examples
    assert spec.batch_size > 1
    assert spec.mem_gb <= 2
    assert not spec.gpu
    # So that the next test tries more than a few, wherever it runs.
    assert (not spec.python_packages) is (name in ("plain", "detection", "image", "stream", "text"))
    # All that it is made of is in its image.
    shipped = select_files(tmp_path / "model", spec.include_files, spec.exclude_files, spec.module)
    assert {file.path for file in shipped} == {path.name for path in begun.files}
    assert 20 < len(about(name)) < 110


@pytest.mark.timeless("what a template's model does has no date")
@pytest.mark.parametrize("name", templates())
def test_a_template_passes_its_check(name, tmp_path):
    """In this Python, where it has what the model imports; `tungsten check` does so in the image."""
    begin(name, tmp_path / "model")
    spec = read_spec(tmp_path / "model")
    if lacking := missing(spec):
        pytest.skip(f"needs {', '.join(lacking)}")
    model = (tmp_path / "model" / "tungsten_model.py").read_text()
    with running_server(tmp_path, model=model, spec=json.loads(spec.to_json())) as server:
        trials, gaps = try_model(spec, server.url, server.log_file, seed=0, timeout=60, said=lambda _: None)
    assert gaps == []
    assert [(trial.what, trial.problem) for trial in trials if not trial.ok] == []
    assert [trial.note for trial in trials if trial.note] == []
    kinds = {trial.kind for trial in trials}
    assert kinds >= {"example", "valid", "invalid"}
    assert ("demo" in kinds) is spec.has_predict_demo
    assert ("stream" in kinds) is spec.stream


@pytest.mark.nix
@pytest.mark.upstream
@pytest.mark.soak
@pytest.mark.parametrize("name", templates())
def test_a_template_on_todays_mirrors(name, tmp_path, upstream):
    """It is locked, built and checked, whatever packages are the newest today. That of torch takes gigabytes."""
    begin(name, tmp_path / name)
    command = [sys.executable, "-m", "tungstenkit", "check", "--json", str(tmp_path / name)]
    done = subprocess.run(command, env=MACHINES_OWN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["ok"]
    assert [trial["note"] for trial in report["trials"] if trial["note"]] == []


def test_an_installed_tungsten_has_all_of_them(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=TEMPLATES.parents[1], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in templates():
            for path in begin(name, tmp_path / name).files:
                packed = f"tungstenkit/templates/{path.relative_to(tmp_path).as_posix()}"
                assert archive.read(packed) == path.read_bytes()


def test_the_onnx_file_is_what_its_program_writes():
    assert (TEMPLATES / "onnx" / "model.onnx").read_bytes() == onnx_file.model()
    labels = "".join(f'"{name}", ' for name in onnx_file.COLORS).removesuffix(", ")
    assert f"LABELS = ({labels})" in (TEMPLATES / "onnx" / "tungsten_model.py").read_text()


def listed(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_what_is_there_is_named_all_at_once_and_stays(tmp_path):
    (tmp_path / "tungsten_model.py").write_text("mine")
    # A link that leads nowhere is there, too.
    (tmp_path / "data.csv").symlink_to("nowhere")
    with pytest.raises(RunError) as caught:
        begin("sklearn", tmp_path)
    assert caught.value.what == "already there, and not overwritten: data.csv, tungsten_model.py"
    assert caught.value.hint == f"begin in another folder: `tungsten init -t sklearn {tmp_path}-2`"
    assert listed(tmp_path) == {"tungsten_model.py", "data.csv"}
    assert (tmp_path / "tungsten_model.py").read_text() == "mine"


def test_the_folder_that_a_hint_names_is_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tungsten_model.py").touch()
    (tmp_path / "model-2").mkdir()
    with pytest.raises(RunError, match="already there") as caught:
        begin("plain", template.Path())
    assert caught.value.hint.endswith("`tungsten init -t plain model-3`")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="it is a file"):
        begin("plain", tmp_path / "file")
    with pytest.raises(RunError, match="can't be written: Not a directory"):
        begin("plain", tmp_path / "file" / "model")


def test_a_folder_that_can_not_be_looked_at_is_told(tmp_path):
    with pytest.raises(RunError, match="can't be written: File name too long"):
        begin("plain", tmp_path / ("x" * 300))


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_ended_midway_leaves_nothing(tmp_path, monkeypatch, problem):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    real = template.Path.open

    def failing(path, mode, **options):
        if mode == "xb" and path.name == "tungsten_model.py":
            raise problem
        return real(path, mode, **options)

    monkeypatch.setattr(template.Path, "open", failing)
    for folder in (tmp_path / "new" / "deep", tmp_path / "there"):
        with pytest.raises((RunError, KeyboardInterrupt)) as caught:
            begin("image", folder)
        if isinstance(problem, OSError):
            assert caught.value.what == "the model can't be written: No space left on device"
    assert listed(tmp_path) == {"there", "there/mine"}


def test_what_appears_meanwhile_stays(tmp_path, monkeypatch):
    """Between the look and the writing."""
    (tmp_path / "tungsten_model.py").write_text("mine")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(RunError, match="can't be written: File exists"):
        begin("image", tmp_path)
    assert listed(tmp_path) == {"tungsten_model.py"}
    assert (tmp_path / "tungsten_model.py").read_text() == "mine"


def test_code_that_is_there_is_told_of(tmp_path):
    assert begin("plain", tmp_path / "empty").code == []
    (tmp_path / "lib").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / ".venv").mkdir()
    for name in ("train.py", ".hidden.py", "lib/__init__.py", "data/x.txt", ".venv/__init__.py", "uv.lock"):
        (tmp_path / name).touch()
    (tmp_path / "requirements.txt").touch()
    begun = begin("plain", tmp_path)
    assert begun.code == ["lib/", "train.py"]
    # Which has hashes counts more.
    assert begun.requirements == "uv.lock"


def test_byte_code_that_an_installer_has_made_is_no_part_of_a_template(tmp_path, monkeypatch):
    (tmp_path / "templates" / "own" / "__pycache__").mkdir(parents=True)
    (tmp_path / "templates" / "own" / "tungsten_model.py").write_text('"""Mine."""\n')
    monkeypatch.setattr(template, "TEMPLATES", tmp_path / "templates")
    assert templates() == ["own"]
    assert about("own") == "Mine"
    assert [path.name for path in begin("own", tmp_path / "model").files] == ["tungsten_model.py"]


@pytest.mark.parametrize("name", ["-x", "--help", "a b", "it's", "~", "$HOME", "ä", "."])
def test_a_folder_is_printed_as_a_shell_takes_it(name):
    line = f"printf %s {quoted(template.Path(name))}"
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    assert template.Path(said) == template.Path(name)
    assert not said.startswith("-")
