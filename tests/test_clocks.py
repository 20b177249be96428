"""The clock is where `tests.clocks` put it; in any other run it is the system's."""

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

from tests.clocks import AHEAD, EAST, WEST, clocks

MOVED = int(os.environ.get(AHEAD, "0"))


def test_the_clock_was_moved_as_far_as_was_said_and_the_time_zone_too(tmp_path):
    """Files are made and dated by the kernel, whose clock nobody moves."""
    file = tmp_path / "now"
    file.touch()
    true = file.stat().st_mtime
    assert time.time() - true == pytest.approx(MOVED, abs=60)
    assert datetime.now(UTC).timestamp() - true == pytest.approx(MOVED, abs=60)
    print_time = [sys.executable, "-c", "import time; print(time.time())"]
    told = float(subprocess.run(print_time, capture_output=True, check=True).stdout)
    assert told - true == pytest.approx(MOVED, abs=60)
    assert (time.timezone, os.environ.get("TZ")) in {(-45900, EAST), (12600, WEST)} or not MOVED


def test_waits_take_as_long_as_they_say():
    begun = time.monotonic()
    time.sleep(0.01)
    assert not threading.Event().wait(0.01)
    assert time.monotonic() - begun < 60


def test_one_clock_is_a_year_ahead_and_the_other_passes_a_years_end():
    for now in (datetime(2026, 11, 30, 12, tzinfo=UTC), datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)):
        (first, *_), (second, *_) = clocks(now).values()
        assert (first - now).days == 400
        assert (second - now).days >= 3 * 365
        assert (second.month, second.day) == (1, 1)
