"""Real builds of the examples, each built once a session. Needs nix, podman, root and mirrors."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, build
from tests.end_to_end.targets import copy_model


def pytest_collection_modifyitems(items):
    """Say what is missing, and count as skipped, where these tests can't run."""
    reasons = [f"{tool} is not installed" for tool in ("nix", "podman", "runc") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        reasons.append("needs root, for private mounts and network namespaces")
    for item in items:
        # What runs without a container needs none of them.
        local = hasattr(item, "callspec") and item.callspec.params.get("kind") == "local"
        if Path(__file__).parent in item.path.parents and not local:
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


@pytest.fixture(scope="session", params=["local", "container"])
def kind(request):
    """Where the black-box tests' server runs."""
    return request.param


@pytest.fixture(scope="session")
def surface(kind, tmp_path_factory):
    """The black-box tests' model as `tungsten serve` takes it: its folder, or its image's name."""
    folder = copy_model(tmp_path_factory.mktemp("surface") / "model")
    if kind == "local":
        yield folder
        return
    image = build(folder, "--name", f"surface-{secrets.token_hex(4)}").reference
    yield image
    subprocess.run(["podman", "rmi", "--force", image], capture_output=True, check=True)
