"""What a model's folder gives to those who read its lock."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tungstenkit import locks
from tungstenkit import project
from tungstenkit.lock import Files, LockedDownload
from tungstenkit.project import Project


@pytest.mark.parametrize("part", ["commands", "post_build"])
def test_what_files_declares_makes_no_result_stale(tmp_path, monkeypatch, part):
    (tmp_path / "tungsten_model.py").write_text("")
    # As it lies there for a server without an image.
    (tmp_path / "weights").write_text("1")
    download = LockedDownload(
        url="http://files.example/weights", size=1, sha256=hashlib.sha256(b"1").hexdigest(), to="weights"
    )
    lock = locks.lock().model_copy(update={"files": Files(downloads=(download,))})
    spec = SimpleNamespace(
        module="tungsten_model",
        include_files=["*"],
        exclude_files=[],
        commands=part == "commands",
        has_post_build=part == "post_build",
    )
    seen = []
    monkeypatch.setattr(project, "read_lock", lambda path: lock)
    monkeypatch.setattr(project, "check_lock", lambda *arguments: None)
    monkeypatch.setattr(
        getattr(project, part), "check", lambda lock, spec, folder, files, where: seen.extend(files)
    )
    assert Project(tmp_path, spec).lock() is lock
    assert [file.path for file in seen] == ["tungsten_model.py"]


def test_the_examples_results_are_of_what_their_models_see():
    """Whoever clones the repository need not train an example's model again."""
    directory = Path(__file__).resolve().parent.parent.parent / "examples" / "iris"
    lock = Project.read(directory, None, None).lock()
    assert all(platform.post_build for platform in lock.platforms.values())
