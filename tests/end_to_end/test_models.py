"""A built image from Python: its container, its own root without an engine, and what is left of both."""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, ImageFilter

from tests.end_to_end.harness import ENGINE, ROOT, container_arguments
from tests.machine import lacks, need, needs
from tungstenkit import models

PICTURE = ROOT / "examples" / "picture.jpg"
RADII = [1.0, 2.5, 4.0, 5.5]


def containers():
    """Those that are ours, by their names."""
    if lacks(*ENGINE):
        return set()
    command = ["podman", "ps", "--all", "--format", "{{.Names}}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {name for name in listed if name.startswith("tungsten-")}


def expected():
    with Image.open(PICTURE) as picture:
        picture = picture.convert("RGB")
        return [picture.filter(ImageFilter.GaussianBlur(radius)).tobytes() for radius in RADII]


def requests():
    return [{"image": PICTURE, "radius": radius} for radius in RADII * 4]


def pixels(output):
    return output.image.to_pil_image().tobytes()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.container
@pytest.mark.parametrize("way", ["container", "root"])
def test_threads_and_an_event_loop_have_one_server_and_nothing_is_left(blur, way, temporary):
    need(*(ENGINE if way == "container" else ()))
    before = containers()
    target = blur.image_id if way == "container" else blur.directory
    given = {"engine_args": container_arguments()} if way == "container" else {"engine": False}
    with models.get(target, **given) as model:
        url = model.url
        with ThreadPoolExecutor(16) as pool:
            by_threads = list(pool.map(model.predict, requests()))

        async def together():
            return await asyncio.gather(*map(model.predict_async, requests()))

        by_loop = asyncio.run(together())
        assert len(containers() - before) == (way == "container")
        assert model.url == url
        with pytest.raises(models.PredictionError) as caught:
            model.predict({"image": b"no picture"})
        assert caught.value.where.startswith("tungsten_model.py, line ")
    assert [pixels(out) for out in by_threads] == expected() * 4
    assert by_loop == by_threads
    assert containers() <= before
    assert list(temporary.iterdir()) == []


@pytest.mark.container
@needs(*ENGINE)
def test_captions_request(caption, temporary):
    with models.get(caption.image_id, engine_args=container_arguments()) as model:
        asked = [{"image": PICTURE, "text": text} for text in ("Hills", "Dusk")]
        outputs = model.predict(asked, temporary / "out", options={"font_size": 20})
        with Image.open(PICTURE) as picture:
            assert {out.image.to_pil_image().size for out in outputs} == {picture.size}
    assert [path.name for path in temporary.iterdir()] == ["out"]
    assert len({out.image.path for out in outputs}) == 2


KILLED = """
import os, signal, sys, tempfile
from tungstenkit import models
tempfile.tempdir = sys.argv[1]
given = {"engine_args": sys.argv[3:]} if sys.argv[3:] else {"engine": False}
model = models.get(sys.argv[2], **given)
model.start()
print(model.url, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.container
@pytest.mark.parametrize("way", ["container", "root"])
def test_a_program_that_is_killed_leaves_nothing(blur, way, tmp_path):
    need(*(ENGINE if way == "container" else ()))
    before = containers()
    target = [blur.image_id, *container_arguments()] if way == "container" else [blur.directory]
    command = [sys.executable, "-c", KILLED, tmp_path, *target]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == -9, run.stderr
    host, _, port = run.stdout.strip().removeprefix("http://").rpartition(":")
    deadline = time.monotonic() + 60
    while (containers() - before or list(tmp_path.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert containers() <= before
    assert list(tmp_path.iterdir()) == []
    with socket.socket() as client:
        assert client.connect_ex((host, int(port))) != 0
