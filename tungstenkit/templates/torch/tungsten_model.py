"""A model of torch's, with its weights in a file: tells circles, squares and triangles apart."""

import random

import PIL.Image
import torch
from PIL import ImageDraw
from torch import nn
from torchvision.transforms import functional

from tungstenkit import BaseIO, Field, Image, define_model

LABELS = ("circle", "square", "triangle")
SIZE = 32
WEIGHTS = "weights.pt"


class Input(BaseIO):
    image: Image = Field(description="A shape on a plain background")


class Output(BaseIO):
    label: str
    score: float


@define_model(
    input=Input,
    output=Output,
    batch_size=16,
    mem_gb=2,
    python_packages=["torch", "torchvision"],
    # gpu=True,  # nothing else changes: the model goes where there is a GPU
    # gpu_mem_gb=4,
    examples=[{"image": "example.png"}],
)
class Shapes:
    @staticmethod
    def post_build() -> None:
        """Trains while the image is built. Without this, put your own weights beside this file, or name where they are:
        `files=[Download("https://…", to="weights.pt")]`, or `HuggingFace("owner/name")`.
        """
        torch.save(train().state_dict(), WEIGHTS)

    def setup(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = network()
        self.model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
        self.model.to(self.device).eval()

    def predict(self, inputs: list[Input]) -> list[Output]:
        batch = torch.stack([pixels(one.image.to_pil_image()) for one in inputs])
        with torch.inference_mode():
            scores = self.model(batch.to(self.device)).softmax(dim=1).cpu()
        return [Output(label=LABELS[int(row.argmax())], score=float(row.max())) for row in scores]


def pixels(picture: PIL.Image.Image) -> torch.Tensor:
    """A picture as the network takes it: how far each pixel is from grey, the background being the corner's."""
    grey = functional.to_tensor(picture.convert("L").resize((SIZE, SIZE)))
    return (grey - grey[:, :1, :1]).abs()


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 7 * 7, len(LABELS))),
    )


def train() -> nn.Module:
    torch.manual_seed(0)
    chance = random.Random(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for step in range(1, 301):
        wanted = [chance.randrange(len(LABELS)) for _ in range(32)]
        batch = torch.stack([pixels(drawing(LABELS[label], chance)) for label in wanted])
        loss = nn.functional.cross_entropy(model(batch), torch.tensor(wanted))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}, loss {loss.item():.3f}")
    return model


def drawing(label: str, chance: random.Random) -> PIL.Image.Image:
    """A shape of a random size at a random place, such as the network learns from."""
    picture = PIL.Image.new("L", (SIZE * 2, SIZE * 2), chance.randrange(200, 256))
    size = chance.randrange(SIZE // 2, SIZE * 3 // 2)
    left, top = (chance.randrange(2, SIZE * 2 - size - 1) for _ in range(2))
    right, bottom, color = left + size, top + size, chance.randrange(0, 150)
    canvas = ImageDraw.Draw(picture)
    if label == "circle":
        canvas.ellipse((left, top, right, bottom), fill=color)
    elif label == "square":
        canvas.rectangle((left, top, right, bottom), fill=color)
    else:
        canvas.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=color)
    return picture
