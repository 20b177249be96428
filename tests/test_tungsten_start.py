"""The program's first moment."""

import os
import subprocess
import sys
import tomllib

import pytest

from tests.generate import ROOT

WAIT = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"


@pytest.mark.parametrize(
    "files",
    [
        {"__init__.py": WAIT},
        {"__init__.py": "", "cli.py": WAIT},
        {"__init__.py": "", "cli.py": f"def main():\n    {WAIT}"},
    ],
    ids=["the package", "the command line", "its first lines"],
)
def test_an_interrupt_before_anything_is_begun_is_quiet(tmp_path, files):
    (tmp_path / "tungstenkit").mkdir()
    for name, text in files.items():
        (tmp_path / "tungstenkit" / name).write_text(text)
    module, _, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][
        "tungsten"
    ].partition(":")
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import {function}; {function}()"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
