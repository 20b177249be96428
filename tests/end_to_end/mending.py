"""Runs `tungsten doctor`, then one of its commands as it stands, and `tungsten doctor` in the same shell again.

mending.py NAME NUMBER OPTION … : of what is called NAME, the command of that number. Prints a JSON list of both
answers, or of one where there is no such command. What a person fills in comes from variables of these names.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

TUNGSTEN = [sys.executable, str(Path(__file__).parents[1] / "frozen" / "tungsten.py")]


def main(name, number, *options):
    doctor = [*TUNGSTEN, "doctor", "--json", *options]
    answers = [answer(doctor)]
    lacking = [one for one in answers[0]["findings"] if (one["name"], one["state"]) == (name, "lacking")]
    commands = [remedy["command"] for one in lacking for remedy in one["remedies"] if remedy["command"]]
    if int(number) < len(commands):
        command = re.sub(
            r"\b(FILE|FOLDER|URL)\b",
            lambda found: os.environ.get(f"FILL_{found[0]}", found[0]),
            commands[int(number)],
        )
        answers.append(answer(["sh", "-ec", f"{command} >&2\nexec {shlex.join(doctor)}"]))
    print(json.dumps(answers))


def answer(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    try:
        return json.loads(done.stdout) | {"status": done.returncode}
    except ValueError:
        sys.exit(f"{shlex.join(command)} said: {done.stdout}")


if __name__ == "__main__":
    main(*sys.argv[1:])
