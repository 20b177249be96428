"""Wheels that need the system's libraries work in images whose models name no system package."""

import json

import pytest

from tests.end_to_end.harness import SYSTEM, build, run_in
from tests.machine import needs

pytestmark = needs("gcc")

MODEL = """\
import bundles_probe
import needs_probe
import pyzbar

from tungstenkit import BaseIO, define_model


class Input(BaseIO):
    text: str


class Output(BaseIO):
    text: str


@define_model(
    input=Input,
    output=Output,
    batch_size=1,
    python_version="3.11",
    python_packages=["needs-probe", "bundles-probe", "pyzbar"],
)
class Libraries:
    def predict(self, inputs):
        return [Output(text=one.text) for one in inputs]
"""
USE = "import bundles_probe, needs_probe, pyzbar; print(needs_probe.call(), bundles_probe.call(), pyzbar.call())"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("libraries")
    (directory / "tungsten_model.py").write_text(MODEL)
    return build(directory)


def test_they_can_be_imported_and_used(model):
    """One that a wheel's library is linked against, one that a wheel brings itself, and one that is found by name."""
    assert run_in(model.image_id, "/usr/bin/python3", "-c", USE) == "42 42 43\n"


def test_the_lock_says_what_was_added_and_why(model):
    lock = json.loads((model.directory / "tungsten.lock").read_text())
    added = {choice["subject"]: choice["chosen"] for choice in lock["choices"] if choice["kind"] == "library"}
    assert added == {"needs-probe needs libprobe.so.1": "libprobe1", "pyzbar needs libzbar.so.0": "libzbar0"}
    groups = {deb["name"]: deb["group"] for deb in lock["platforms"][SYSTEM]["debs"]}
    assert groups["libprobe1"] == groups["libzbar0"] == "system"
    assert "coreutils" not in groups
