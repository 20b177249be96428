"""How long locking takes, in processor seconds and by the clock: run by hand, for it asks today's mirrors.

    python -m tests.speed_of_lock [--command PROGRAM] [PACKAGE …]

locks a model of these Python packages (default: some that bring about sixty wheels) without any cache, then again, then
asks whether the lock still fits. Of a machine that others use, too, the processor seconds are what can be compared.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = (
    *("transformers", "scikit-learn", "pandas", "matplotlib"),
    *("fastapi", "uvicorn", "aiohttp", "rich"),
)
MODEL = """\
from tungstenkit import BaseIO, define_model


class Text(BaseIO):
    text: str


@define_model(input=Text, output=Text, python_packages={packages!r})
class Model:
    def predict(self, inputs):
        return inputs
"""
STEPS = {"a first lock": ["lock"], "once more": ["lock"], "does it fit?": ["lock", "--check"]}


def spent():
    """The processor seconds of all processes that have ended, user's and system's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--command", default=f"{sys.executable} -m tungstenkit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
        model = Path(folder) / "model"
        model.mkdir()
        (model / "tungsten_model.py").write_text(MODEL.format(packages=list(arguments.packages)))
        environ = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        environ.pop("UV_CACHE_DIR", None)
        for name, step in STEPS.items():
            began, before = time.monotonic(), spent()
            command = [*arguments.command.split(), *step, str(model)]
            done = subprocess.run(command, env=environ, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            print(f"{name:15} {spent() - before:6.1f} CPU s {time.monotonic() - began:6.1f} s", flush=True)
            print(
                "".join(f"    {line}\n" for line in done.stderr.splitlines() if line.startswith("locked ")),
                end="",
            )


if __name__ == "__main__":
    main()
