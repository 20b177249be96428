"""Runs the unit tests under other clocks and in other time zones: what passes today must pass on any day.

python -m tests.clocks             at both moments that have a name:
python -m tests.clocks days        400 days ahead
python -m tests.clocks years       over the end of a year, three years ahead
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

from tungstenkit.seal.fake_time import without

ROOT = Path(__file__).resolve().parent.parent
UNPACKED = ROOT / ".venv" / "libfaketime"
"""Where `make test` unpacks the package."""
AHEAD = "TUNGSTEN_TESTS_AHEAD"
"""The variable that tells tests by how many seconds their clock was moved."""
TESTS = ("tests/tungstenkit", "tests/nix", "tests/server", "tests/test_repository.py", "tests/test_clocks.py")
# POSIX's form, which needs no data of the machine's: east and west, both off the full hour, with daylight saving.
EAST = "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45"
WEST = "NST3:30NDT,M3.2.0,M11.1.0"


def clocks(now):
    """For each clock by its name the moment at which tests start, its time zone, and which tests."""
    # Half a minute before the year ends there; elsewhere it has ended. The programs of builds read no clock at all
    # (tests/test_repository.py), and a server counts seconds, not years: once is enough for them.
    once = ("tests/nix", "tests/server")
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
    known = clocks(datetime.now(UTC))
    with tempfile.TemporaryDirectory() as folder:
        library = libfaketime(Path(folder))
        if library is None:
            print(f"skipped: there is no libfaketime in {UNPACKED}; `make test` unpacks Debian's package")
            return 0
        failed = False
        for one in asked or known:
            moment, zone, tests = known.get(one) or (
                datetime.fromisoformat(one).replace(tzinfo=UTC),
                WEST,
                TESTS,
            )
            ahead = int((moment - datetime.now(UTC)).total_seconds())
            print(f"the tests at {moment:%Y-%m-%d %H:%M} UTC, in the time zone {zone}", flush=True)
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-m",
                "not nix and not browser and not frozen and not upstream and not soak",
                *tests,
            ]
            failed |= subprocess.run(command, cwd=ROOT, env=environment(library, ahead, zone)).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
