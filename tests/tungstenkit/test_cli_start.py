"""What a command imports before its first line of work: a person waits for that each time."""

import subprocess
import sys
from pathlib import Path

import pytest

BLUR = Path(__file__).parents[2] / "examples" / "blur"

PROGRAM = """
import sys
from tungstenkit.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("modules:", *{name.partition(".")[0] for name in sys.modules})
"""
NETWORK = {"requests", "urllib3", "pysequoia"}
SOLVING = {"solv", "elftools"}
MODEL = {"pydantic", "PIL", "pathspec"}


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--version"], NETWORK | SOLVING | {"PIL", "pathspec"}),
        (["--help"], NETWORK | SOLVING | {"PIL", "pathspec"}),
        (["lock", "--help"], NETWORK | SOLVING | {"PIL", "pathspec"}),
        (["lock", "--check", str(BLUR)], NETWORK | SOLVING | {"PIL"}),
    ],
)
def test_a_command_imports_what_it_needs_alone(arguments, unused):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    imported = set(run.stdout.rpartition("modules: ")[2].split())
    assert "typer" in imported
    assert imported & unused == set()
