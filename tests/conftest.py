"""What no test may depend on: how busy the machine is, and who has started the tests. And the frozen archive; and what
was left out, told.
"""

import os
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

from tests import machine
from tests.clocks import AHEAD, FEW
from tests.frozen import made, served, take
from tungstenkit import nix_program
from tungstenkit.debian.release import RELEASES
from tungstenkit.fetch.machine_mirrors import Machine, find_mirrors
from tungstenkit.fetch.web import get_bytes
from tungstenkit.sdk.errors import TungstenError

MACHINES_OWN = dict(os.environ)

# How long an example takes says nothing about what is tested; and who changes something gets no fault that chance has
# found somewhere else: each run has the same examples, and `make soak` others, and more.
hypothesis.settings.register_profile(
    "same", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], derandomize=True
)
hypothesis.settings.register_profile(
    FEW, hypothesis.settings.get_profile("same"), max_examples=5, stateful_step_count=10
)
hypothesis.settings.register_profile(
    "chance", hypothesis.settings.get_profile("same"), derandomize=False, max_examples=1000
)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if "frozen" in item.fixturenames:
            item.add_marker(pytest.mark.frozen)
    if AHEAD in os.environ:
        # They run with the machine's own clock, and so they are not left out.
        timeless = [item for item in items if item.get_closest_marker("timeless")]
        config.hook.pytest_deselected(items=timeless)
        items[:] = [item for item in items if item not in {*timeless}]


def pytest_configure(config):
    config.pluginmanager.register(machine.LeftOut(), "left-out")


# Tests have other folders for what users keep; the Nix that they start is one and the same.
if nix_program.current().is_own:
    os.environ[nix_program.HOME] = str(nix_program.home())

# A shell's background job ignores it (POSIX, "Asynchronous AND-OR Lists"), and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def frozen():
    """The frozen archive, with what the tests make, served; skips where what is real of it can't be had."""
    try:
        take.main()
    except SystemExit as problem:
        pytest.skip(f"nothing real is frozen: {problem}")
    # On the disk of what was taken: files are links.
    with tempfile.TemporaryDirectory(dir=take.TAKEN, prefix="archive-") as folder:
        archive = take.archive_of(take.TAKEN, Path(folder) / "archive")
        (Path(folder) / "made").mkdir()
        made.add_to(archive, Path(folder) / "made")
        archive.publish()
        with served.serve(archive) as running:
            yield running


@pytest.fixture(scope="session")
def upstream():
    """This machine's own mirrors, for tests marked `upstream`; skips where they don't answer."""
    try:
        mirrors = find_mirrors(machine=Machine(MACHINES_OWN))
        mirrors.project_files("pip")
        get_bytes(f"{mirrors.debian_bases['debian'][0]}/dists/{next(iter(RELEASES))}/InRelease", attempts=1)
    except TungstenError as problem:
        pytest.skip(f"no mirror answers: {problem}")
    return mirrors
