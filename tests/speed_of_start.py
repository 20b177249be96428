"""How long short commands take, by the clock and in processor seconds: run by hand, where nothing else runs.

    python -m tests.speed_of_start [--rounds N] [--command LINE] [--against LINE] [FOLDER]

prints the medians for a copy of a model's folder (default: examples/blur) that has a lock. With `--against`, another
command line does the same in turns with the first, on a copy of its own: of a machine that others use, too, only such
pairs can be compared, and best their processor seconds. A round that is not counted goes before.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median

BLUR = Path(__file__).parents[1] / "examples" / "blur"


def spent():
    """The processor seconds of all processes that have ended, user's and system's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Side:
    """One command line, with its own copy of the model and its own name for the image."""

    def __init__(self, line, model, folder):
        self.line = line.split()
        self.model = folder / "model"
        shutil.copytree(model, self.model, ignore=shutil.ignore_patterns(".tungsten"))
        self.name = f"tungsten-speed-{uuid.uuid4().hex[:8]}"
        self.images = set()
        self.times = {}

    def run(self, *arguments):
        done = subprocess.run([*self.line, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join([*self.line, *arguments])}\n{done.stderr}")
        return done.stdout

    def build(self):
        """Build, and know the image, so that it can be removed."""
        answer = json.loads(self.run("build", str(self.model), "--name", self.name, "--json"))
        self.images.add((answer["engine"], answer["image-id"]))

    def edit(self):
        """Change the model as no other run has, so that no store has what is made of it."""
        with (self.model / "tungsten_model.py").open("a") as file:
            file.write(f"# {uuid.uuid4()}\n")

    def steps(self):
        """What is measured, by name, in the order of a round."""
        yield "--version", lambda: self.run("--version")
        yield "--help", lambda: self.run("--help")
        yield "lock --check", lambda: self.run("lock", "--check", str(self.model))
        yield "build, nothing changed", self.build
        self.edit()
        yield "build after an edit", self.build

    def clear(self):
        for engine, image in self.images:
            if engine:
                subprocess.run([engine, "rmi", "--force", image], capture_output=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, default=BLUR)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--command", default=f"{sys.executable} -m tungstenkit")
    parser.add_argument("--against")
    arguments = parser.parse_args()
    lines = [line for line in (arguments.command, arguments.against) if line]
    with tempfile.TemporaryDirectory(prefix="tungsten-") as folder:
        sides = [Side(line, arguments.model, Path(folder) / str(n)) for n, line in enumerate(lines)]
        try:
            for side in sides:
                side.build()
            for round_ in range(arguments.rounds + 1):
                # What a round does for the machine, as filling a cache, is not always for the same side.
                order = sides[::-1] if round_ % 2 else sides
                for steps in zip(*(side.steps() for side in order), strict=True):
                    for side, (name, step) in zip(order, steps, strict=True):
                        began, before = time.monotonic(), spent()
                        step()
                        if round_:
                            times = time.monotonic() - began, spent() - before
                            side.times.setdefault(name, []).append(times)
        finally:
            for side in sides:
                side.clear()
        for name in sides[0].times:
            print(f"{name:24}{'   against   '.join(shown(side.times[name]) for side in sides)}")


def shown(times):
    clock, processor = zip(*times, strict=True)
    spread = f"{min(clock):.2f} to {max(clock):.2f}"
    return f"{median(clock):.2f} s ({spread}), {median(processor):.2f} CPU s"


if __name__ == "__main__":
    main()
