"""Real builds of the examples, each built once a session. Needs nix, podman, root and mirrors."""

import os
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, build


def pytest_collection_modifyitems(items):
    """Say what is missing, and count as skipped, where these tests can't run."""
    reasons = [f"{tool} is not installed" for tool in ("nix", "podman", "runc") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        reasons.append("needs root, for private mounts and network namespaces")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.nix)
            if reasons:
                item.add_marker(pytest.mark.skip(reason="; ".join(reasons)))


@pytest.fixture(scope="session")
def copy_of(tmp_path_factory):
    """Makes a copy of an example in a fresh folder, with its lock."""

    def copy(name):
        target = tmp_path_factory.mktemp("model") / name
        shutil.copytree(ROOT / "examples" / name, target, ignore=shutil.ignore_patterns(".tungsten"))
        return target

    return copy


@pytest.fixture(scope="session")
def blur(copy_of):
    """examples/blur, from its committed lock: Python 3.11 on Debian 12."""
    return build(copy_of("blur"))


@pytest.fixture(scope="session")
def caption(copy_of):
    """examples/caption, from its committed lock: Python 3.13 on Debian 13."""
    return build(copy_of("caption"))
