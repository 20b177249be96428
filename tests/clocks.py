"""Runs the unit tests under other clocks and in other time zones: what passes must pass on any day.

python -m tests.clocks today       what can't have its clock moved, and no more: today is one more day
python -m tests.clocks days        all others 400 days ahead; where no clock can be moved, now
python -m tests.clocks years       over the end of a year, three years ahead, with few examples of each property
python -m tests.clocks MOMENT…     at other moments, such as 2038-01-19T03:00

The clock that a process reads is moved by Debian's libfaketime; waits take as long as ever, and files are as old as
the system says. `tests/test_clocks.py` fails where the clock is not where it was put.
"""

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests import machine
from tungstenkit.seal.fake_time import without

ROOT = Path(__file__).resolve().parent.parent
UNPACKED = ROOT / ".venv" / "libfaketime"
"""Where `make test` unpacks the package."""
WITHOUT = f"there is no libfaketime in {UNPACKED.relative_to(ROOT)}; `make test` unpacks Debian's package"
FEW = "few-examples"
"""The profile of Hypothesis for clocks after the first."""
AHEAD = "TUNGSTEN_TESTS_AHEAD"
"""The variable that tells tests by how many seconds their clock was moved."""
TESTS = (
    "tests/tungstenkit",
    "tests/nix",
    "tests/server",
    "tests/frozen",
    "tests/test_repository.py",
    "tests/test_clocks.py",
    "tests/test_dist.py",
    "tests/test_machine.py",
)
FIXED = "nix or container or browser or frozen or upstream"
"""The markers of tests that meet what has a clock of its own. What is `timeless` is for `today` where the clock is
moved (conftest.py).
"""
# POSIX's form, which needs no data of the machine's: east and west, both off the full hour, with daylight saving.
EAST = "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45"
WEST = "NST3:30NDT,M3.2.0,M11.1.0"


def clocks(now):
    """For each clock by its name the moment at which tests start, its time zone, and which tests."""
    # Half a minute before the year ends there; elsewhere it has ended. The programs of builds read no clock at all
    # (tests/test_repository.py, which reads what is committed), and a server counts seconds, not years: once is enough.
    once = ("tests/nix", "tests/server", "tests/test_repository.py", "tests/test_dist.py")
    turn = datetime(now.year + 4, 1, 1, 3, 29, 30, tzinfo=UTC)
    return {
        "days": (now + timedelta(days=400), EAST, TESTS),
        "years": (turn, WEST, [one for one in TESTS if one not in once]),
    }


def libfaketime(folder):
    """The library, made in a folder as build steps have it too; None where the package is not unpacked."""
    found = sorted(UNPACKED.glob("usr/lib/*/faketime/libfaketimeMT.so.1"))
    if not found:
        return None
    library = folder / found[0].name
    library.write_bytes(without(found[0].read_bytes(), "clock_nanosleep"))
    return library


def environment(library, ahead, zone):
    """The variables under which a process, and what it starts, has another clock."""
    return {
        **os.environ,
        AHEAD: str(ahead),
        "TZ": zone,
        "LD_PRELOAD": str(library),
        "FAKETIME": f"+{ahead}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "NO_FAKE_STAT": "1",
    }


def main(asked):
    now = datetime.now(UTC)
    known = clocks(now)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        library = libfaketime(Path(folder))
        for one in asked:
            if one == "today":
                failed |= failing(f"timeless or {FIXED}", ["tests", "--ignore=tests/end_to_end"], os.environ)
                continue
            # The first is the only run that most tests have.
            few = [] if one == "days" else [f"--hypothesis-profile={FEW}"]
            other = datetime.fromisoformat(one).replace(tzinfo=UTC) if one not in known else None
            moment, zone, tests = known[one] if other is None else (other, WEST, TESTS)
            variables = dict(os.environ)
            if library is not None:
                print(f"the tests at {moment:%Y-%m-%d %H:%M} UTC, in the time zone {zone}", flush=True)
                ahead = int((moment - datetime.now(UTC)).total_seconds())
                variables = environment(library, ahead, zone)
            else:
                print(f"{'not moved' if one == 'days' else 'skipped'}: {WITHOUT}", flush=True)
                machine.note({f"the clock of {one}": "needs libfaketime"})
                if one != "days":
                    continue
            failed |= failing(f"not ({FIXED})", [*few, *tests], variables)
    return int(failed)


def failing(markers, arguments, variables):
    """Whether a test fails of those that a marker expression chooses."""
    command = [*(sys.executable, "-m", "pytest", "-q", "-m", f"not soak and ({markers})"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables).returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
