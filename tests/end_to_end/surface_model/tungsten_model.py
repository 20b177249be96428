"""What the black-box tests ask for: a model that does as it is told, and says what shared its batch."""

import math
import os
import tempfile
import time
from pathlib import Path

from tungstenkit import BaseIO, Binary, Field, Option, define_model

GATES = Path(os.environ.get("SURFACE_GATES", "/gates"))
"""FIFOs: whoever reads one waits until a test opens and closes it."""


class Input(BaseIO):
    do: str = Field(description="A word, and what it is about")
    scale: float = Option(1.0, ge=0, le=10)
    mode: str = Option("plain", choices=["plain", "fancy"])
    file: Binary = Option("data:,")


class Item(BaseIO):
    name: str
    length: int


class Output(BaseIO):
    did: str
    batch: list[str]
    scales: list[float]
    number: float
    items: list[Item]
    file: Binary


class DemoOutput(BaseIO):
    shown: str
    items: list[Item]


@define_model(input=Input, output=Output, demo_output=DemoOutput, batch_size=4, mem_gb=0.5)
class Surface:
    def setup(self):
        print("set up")
        self.path = Path(tempfile.mkdtemp()) / "kept"
        self.output = Output(did="", batch=[], scales=[], number=1, items=[], file="data:,")
        match os.environ.get("SURFACE_SETUP"):
            case "wait":
                wait("setup")
            case "fail":
                raise OSError("no weights")

    def predict(self, inputs):
        batch, scales = [one.do for one in inputs], [one.scale for one in inputs]
        outputs = []
        for one in inputs:
            word, _, about = one.do.partition(" ")
            number = 1.0
            match word:
                case "wait":
                    wait(about)
                case "sleep":
                    time.sleep(float(about))
                case "raise":
                    raise ValueError(about)
                case "exit":
                    raise SystemExit(about)
                case "die":
                    os._exit(int(about))
                case "nan":
                    number = math.nan
                case "none":
                    continue
                case "more":
                    outputs.append({})
                case "kept":
                    outputs.append(self.kept(one.do))
                    continue
                case "wrong":
                    outputs.append("text")
                    continue
            items = [Item(name=part, length=len(part)) for part in one.do.split()]
            outputs.append(
                Output(did=one.do, batch=batch, scales=scales, number=number, items=items, file=one.file)
            )
        return outputs

    def kept(self, do):
        """One object and one file for all, as no model should have them."""
        self.path.write_text(do)
        self.output.did, self.output.file = do, self.path
        return self.output

    def predict_demo(self, inputs):
        print(f"demo of {len(inputs)}", flush=True)
        outputs = self.predict(inputs)
        return outputs, [DemoOutput(shown=output.did, items=output.items) for output in outputs]


def wait(name):
    (GATES / name).read_bytes()
