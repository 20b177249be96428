"""An image with something of each kind in it."""

import pytest

from tests.tungstenkit.bill.made import World


@pytest.fixture
def world(tmp_path, monkeypatch):
    """What it is put together of."""
    return World(tmp_path, monkeypatch)


@pytest.fixture
def made(world):
    """The image itself."""
    return world.made()
