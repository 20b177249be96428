"""What no test may depend on: how busy the machine is, and who has started the tests."""

import os
import signal

import hypothesis
import pytest

from tests.clocks import AHEAD

# How long an example takes says nothing about what is tested.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "moved clock",
    hypothesis.settings.get_profile("busy"),
    max_examples=5,
    stateful_step_count=10,
    database=None,
)
# Under another clock it is the clock that is tried.
hypothesis.settings.load_profile("moved clock" if AHEAD in os.environ else "busy")


def pytest_collection_modifyitems(items):
    for item in items:
        if AHEAD in os.environ and (mark := item.get_closest_marker("timeless")):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


# A shell's background job ignores it (POSIX, "Asynchronous AND-OR Lists"), and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
