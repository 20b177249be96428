"""A model with inputs of every kind, whose origins are gone by the time that a test has it."""

import secrets
from dataclasses import dataclass

from tests import hub as hubs
from tests.end_to_end import bases
from tests.end_to_end.harness import Build, build
from tests.hub import Hub, Repository

COMMIT = "c" * 40
CARD = b"---\nlicense: mit\n---\nA card.\n"
BIG = 20_000
"""Bytes of a file of the model that is big."""
_MODEL = """
import urllib.request
from pathlib import Path
from tungstenkit import BaseIO, Download, HuggingFace, define_model

class Input(BaseIO):
    number: int

class Output(BaseIO):
    number: int

@define_model(
    input=Input,
    output=Output,
    base_image="{base}",
    python_version="3.11",
    python_packages=["./pure", "torch"],
    dockerfile_commands=[
        'RUN --network=default ["/opt/tungsten/bin/busybox", "wget", "-O", "/opt/fetched", "{url}/files/command"]',
        'RUN ["/opt/tungsten/bin/busybox", "rm", "/etc/edition", "{python}/this.py"]',
    ],
    files=[
        Download("{url}/files/w.onnx", to="weights/w.onnx"),
        HuggingFace("org/name"),
        HuggingFace("org/name", revision="v1", to="tokenizer", include=["*.json"]),
    ],
)
class Model:
    @staticmethod
    def post_build():
        with urllib.request.urlopen("{url}/files/post-build") as answer:
            Path("made.bin").write_bytes(answer.read())

    def predict(self, inputs):
        return [Output(number=one.number) for one in inputs]
"""
_PROJECT = (
    '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "pure"\nversion = "1.0"\nlicense = "ISC"\n'
)


@dataclass
class Everything:
    """The model as it was built, and the hub that its files, weights and steps' results were from."""

    image: Build
    hub: Hub


def make(folder):
    """Lock and build it below a folder, while a hub and a registry with its base image are served."""
    model = folder / "all"
    (model / "pure" / "src" / "pure").mkdir(parents=True)
    (model / "pure" / "pyproject.toml").write_text(_PROJECT)
    (model / "pure" / "src" / "pure" / "__init__.py").write_text("WORD = 'pure'\n")
    (model / "big.bin").write_bytes(secrets.token_bytes(BIG))
    (model / "pyproject.toml").write_text(f"[tool.tungsten]\nbig-file-mb = {BIG / 2e6}\n")
    bases.image(folder / "base", [bases.tar(("etc/edition", secrets.token_bytes(100)))])
    with hubs.running() as hub, bases.registry(folder) as host:
        files = {"config.json": b"{}", "README.md": CARD, "model.safetensors": secrets.token_bytes(5000)}
        hub.repositories["org/name"] = Repository({COMMIT: files}, {"main": COMMIT, "v1": COMMIT})
        hub.files = {name: secrets.token_bytes(1000) for name in ("w.onnx", "command", "post-build")}
        bases.push(folder / "base", f"{host}/base:1")
        text = _MODEL.format(
            base=f"{host}/base:1", url=hub.url, python="/opt/tungsten/python/usr/lib/python3.11"
        )
        (model / "tungsten_model.py").write_text(text)
        return Everything(build(model, "--no-load", env={"HF_ENDPOINT": hub.url}), hub)
