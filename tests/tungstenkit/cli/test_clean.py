"""`tungsten clean`: what it removes, and that it asks for what."""

import subprocess
import sys

import pytest

from tungstenkit.cli import main as command_line


def test_tungsten_s_own_nix_is_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path))
    (tmp_path / "nix" / "store").mkdir(parents=True)
    (tmp_path / "nix" / "store" / "file").write_text("x" * 100_000)
    (tmp_path / "other").touch()
    for said in (f"removed {tmp_path}/nix, 0 MB\n", f"nothing is in {tmp_path}/nix\n"):
        with pytest.raises(SystemExit) as ended:
            command_line.command_line("clean")(["clean", "--nix"], prog_name="tungsten")
        assert not ended.value.code
        assert capsys.readouterr().out == said
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_nothing_is_removed_that_was_not_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path))
    (tmp_path / "nix").mkdir()
    run = subprocess.run([sys.executable, "-m", "tungstenkit", "clean"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "--nix" in run.stderr
    assert (tmp_path / "nix").exists()
