"""Wheels that need the system's libraries work in images whose models name no system package."""

import json

import pytest

from tests.end_to_end.harness import build, run_in

MODEL = """\
import cv2
import psycopg2
import soundfile
from pyzbar import pyzbar

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
    python_packages=["opencv-python", "soundfile", "pyzbar", "psycopg2-binary"],
)
class Libraries:
    def predict(self, inputs):
        return [Output(text=cv2.__version__) for _ in inputs]
"""

USE = """
import ctypes.util, io, json
import cv2, numpy, psycopg2, soundfile
from pyzbar import pyzbar

picture = cv2.QRCodeEncoder.create().encode("from the image")
picture = cv2.resize(picture, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
sound = io.BytesIO()
soundfile.write(sound, numpy.zeros(800), 8000, format="OGG")
sound.seek(0)
try:
    psycopg2.connect("host=127.0.0.1 port=1 connect_timeout=2")
except psycopg2.OperationalError as problem:
    refused = "port 1 failed" in str(problem)
print(json.dumps({
    "opencv": cv2.GaussianBlur(picture, (5, 5), 0).shape == picture.shape,
    "pyzbar": [code.data.decode() for code in pyzbar.decode(picture)],
    "soundfile": soundfile.read(sound)[1],
    "psycopg2": refused,
    "found by name": ctypes.util.find_library("zbar"),
}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("libraries")
    (directory / "tungsten_model.py").write_text(MODEL)
    return build(directory)


def test_they_can_be_imported_and_used(model):
    assert json.loads(run_in(model.image_id, "/usr/bin/python3", "-c", USE)) == {
        "opencv": True,
        "pyzbar": ["from the image"],
        "soundfile": 8000,
        "psycopg2": True,
        "found by name": "libzbar.so.0",
    }


def test_the_lock_says_what_was_added_and_why(model):
    lock = json.loads((model.directory / "tungsten.lock").read_text())
    added = {choice["subject"]: choice["chosen"] for choice in lock["choices"] if choice["kind"] == "library"}
    assert added["pyzbar needs libzbar.so.0"] == "libzbar0"
    assert added["opencv-python needs libGL.so.1"] == "libgl1"
    assert "psycopg2-binary" not in " ".join(added)
    groups = {deb["name"]: deb["group"] for deb in lock["platforms"]["x86_64-linux"]["debs"]}
    assert groups["libgl1"] == groups["libzbar0"] == "system"
    assert "coreutils" not in groups
