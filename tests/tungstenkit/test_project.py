"""A model's folder: what of it counts when a lock is read."""

from types import SimpleNamespace

import pytest

from tests.tungstenkit import locks
from tungstenkit import commands, post_build, project
from tungstenkit.lock import Files, LockedDownload
from tungstenkit.project import Project


@pytest.mark.parametrize("of", [commands, post_build])
def test_declared_files_that_lie_here_too_make_no_result_stale(tmp_path, monkeypatch, of):
    """Sealing leaves them out, so whoever reads the lock must."""
    for name in ("tungsten_model.py", "helper.py", "w.bin"):
        (tmp_path / name).write_text("")
    spec = SimpleNamespace(
        module="tungsten_model",
        include_files=["*"],
        exclude_files=[],
        commands=of is commands,
        has_post_build=of is post_build,
    )
    download = LockedDownload(url="http://loopback/w.bin", size=0, sha256="0" * 64, to="w.bin")
    lock = locks.lock().model_copy(update={"files": Files(downloads=(download,))})
    monkeypatch.setattr(project, "read_lock", lambda path: lock)
    monkeypatch.setattr(project, "check_lock", lambda lock, spec, path: None)
    seen = []
    monkeypatch.setattr(of, "check", lambda lock, spec, directory, files, where: seen.extend(files))
    Project(tmp_path, spec).lock()
    assert [file.path for file in seen] == ["helper.py", "tungsten_model.py"]
