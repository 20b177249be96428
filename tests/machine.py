"""What tests need of a machine that it may not have, and what was left out for want of it.

    python -m tests.machine nix             brings tungsten's own Nix, where none is on PATH
    python -m tests.machine begin FOLDER    empties the folder in which runs note what they left out
    python -m tests.machine tell FOLDER     sums that up; fails where what `examples/need.sh` installs was lacking

A test that can't run here is skipped by `needs` or `need`, so that each lack has one wording, and can be counted.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from tungstenkit import nix_program
from tungstenkit.cli.terminal import Terminal
from tungstenkit.fetch import own_nix
from tungstenkit.fetch.machine_mirrors import find_mirrors
from tungstenkit.sdk.errors import TungstenError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "TUNGSTEN_TESTS_LEFT_OUT"
"""The variable that names the folder in which runs note what they left out."""
_NEEDS = "needs "


def _has_nix():
    """Whether there is a Nix, on PATH or tungsten's own."""
    nix = nix_program.current()
    return not nix.is_absent if nix.is_own else shutil.which("nix-store") is not None


@functools.cache
def _has_namespaces():
    """Whether this user gets namespaces: a build takes them, and so does an image's root without an engine."""
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True).returncode == 0
    )


def _is_unpacked(name):
    """Whether a package is here that `examples/need.sh` unpacks, since nobody wants it installed."""
    return shutil.which(name) is not None or (ROOT / ".venv" / name).is_dir()


_OTHERS = {
    **{
        name: functools.partial(_is_unpacked, name)
        for name in ("docker-registry", "libfaketime", "prometheus")
    },
    "nix": _has_nix,
    # A program that comes by requirements.lock, on some machines.
    "syft": lambda: shutil.which("syft", path=sysconfig.get_path("scripts")) is not None,
    "namespaces": _has_namespaces,
    "root": lambda: os.geteuid() == 0,
    # One that others can be put over, as some tests do.
    "/nix": lambda: shutil.which("nix-store") is not None and Path("/nix/store").is_dir(),
}


def lacks(*wanted):
    """Which of these are not here: names of programs, `nix`, `namespaces`, `root`, `/nix`."""
    return [name for name in wanted if not _OTHERS.get(name, functools.partial(shutil.which, name))()]


def needs(*wanted):
    """The mark of a test that is left out where one of these is not here."""
    return pytest.mark.skipif(bool(lacks(*wanted)), reason=_NEEDS + ", ".join(lacks(*wanted)))


def need(*wanted):
    """Leave out the running test where one of these is not here."""
    if lacking := lacks(*wanted):
        pytest.skip(_NEEDS + ", ".join(lacking))


class LeftOut:
    """A plugin of pytest that tells, and notes for `tell`, which tests were left out."""

    def __init__(self):
        """Begin."""
        self.reasons = {}

    def pytest_runtest_logreport(self, report):
        """Take note of a test that was skipped."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.reasons[report.nodeid] = report.longrepr[2].removeprefix("Skipped: ")

    def pytest_terminal_summary(self, terminalreporter):
        """Say it in one line."""
        if self.reasons:
            terminalreporter.write_line(summary(self.reasons))

    def pytest_sessionfinish(self):
        """Note it for `tell`."""
        note(self.reasons)


def note(reasons):
    """Note what a run has left out, where somebody wants to know. reasons: by test."""
    if folder := os.environ.get(FOLDER):
        (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(reasons))


def summary(reasons):
    """One line of what was left out, and why. reasons: by test."""
    parts = [
        f"{count} {'test' if count == 1 else 'tests'}"
        + (f" for want of {reason.removeprefix(_NEEDS)}" if reason.startswith(_NEEDS) else f" ({reason})")
        for reason, count in Counter(reasons.values()).most_common()
    ]
    return f"left out: {'; '.join(parts) or 'nothing'}"


def installed():
    """What `examples/need.sh` installs for the tests, as root on Debian, and what is so there."""
    text = (ROOT / "examples" / "need.sh").read_text()
    return {"root", "namespaces", "/nix", *re.findall(r"(?m)^ *(?:need|unpack) ([\w.-]+)", text)}


def can_install():
    """Whether `examples/need.sh` installs here."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def should_not_lack(reasons):
    """What tests were left out for, though `examples/need.sh` installs it. reasons: by test."""
    lacking = (one.removeprefix(_NEEDS).split(", ") for one in reasons.values() if one.startswith(_NEEDS))
    return sorted({name for names in lacking for name in names} & installed())


def tell(folder):
    """Sum up what the runs have noted in a folder; the status of a program that does so."""
    reasons = {}
    for path in sorted(Path(folder).glob("*.json")):
        reasons |= json.loads(path.read_text())
    print(summary(reasons))
    if can_install() and (missing := should_not_lack(reasons)):
        print(
            f"error: examples/need.sh installs {', '.join(missing)}, and tests went without", file=sys.stderr
        )
        return 1
    return 0


def bring_nix():
    """Bring tungsten's own Nix, where there is no other: of today's mirrors, as for a model."""
    try:
        own_nix.bring(lambda: own_nix.Origin.of(find_mirrors()), Terminal())
    except TungstenError as problem:
        print(f"{problem}\n  (the tests that need Nix are left out)", file=sys.stderr)


def main(command, folder=""):
    """Do what the command line asks for; the exit status."""
    if command == "nix":
        return bring_nix()
    if command == "begin":
        shutil.rmtree(folder, ignore_errors=True)
        return Path(folder).mkdir(parents=True)
    return tell(folder)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
