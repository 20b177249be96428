"""A model in ONNX, run by onnxruntime: tells which colours a picture has."""

import numpy as np
import onnxruntime

from tungstenkit import BaseIO, Field, Image, Option, define_model

LABELS = ("black", "white", "red", "yellow", "green", "blue")  # what the model's outputs stand for, in order
SIZE = 64  # the sides of the pictures that it takes


class Input(BaseIO):
    image: Image
    top: int = Option(3, ge=1, le=len(LABELS), description="How many labels come back")


class Label(BaseIO):
    label: str
    score: float


class Output(BaseIO):
    labels: list[Label] = Field(description="The likeliest first")


@define_model(
    input=Input,
    output=Output,
    batch_size=16,
    mem_gb=1,
    python_packages=["numpy", "onnxruntime"],  # for a GPU "onnxruntime-gpu", and:
    # gpu=True,
    # gpu_mem_gb=4,
    examples=[{"image": "example.png"}],
)
class Classifier:
    def setup(self) -> None:
        # Put your own file in the place of model.onnx; `get_inputs()` says what it takes.
        self.session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name

    def predict(self, inputs: list[Input]) -> list[Output]:
        batch = np.stack([pixels(one.image) for one in inputs])
        (scores,) = self.session.run(None, {self.input_name: batch})
        top = inputs[0].top  # all options are equal within a batch
        return [labelled(row, top) for row in scores]


def pixels(image: Image) -> np.ndarray:
    """A picture as the model takes it: channel, row and column, from 0 to 1."""
    picture = image.to_pil_image().resize((SIZE, SIZE))
    return np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255


def labelled(scores: np.ndarray, top: int) -> Output:
    best = np.argsort(-scores, kind="stable")[:top]
    return Output(labels=[Label(label=LABELS[place], score=float(scores[place])) for place in best])
