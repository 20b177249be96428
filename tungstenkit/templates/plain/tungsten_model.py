"""Plain values in and out: greets each name that it is given."""

from tungstenkit import BaseIO, Field, Option, define_model


class Input(BaseIO):
    name: str = Field(description="Who is greeted", min_length=1)
    # What has a default is an option, and the same for all inputs of a batch.
    greeting: str = Option("Hello", choices=["Hello", "Good evening"])


class Output(BaseIO):
    text: str


@define_model(
    input=Input,
    output=Output,
    batch_size=8,
    mem_gb=1,
    python_packages=[],  # such as "numpy>=2"
    system_packages=[],  # such as "ffmpeg": as apt names them
    examples=[{"name": "World"}],
)
class Greeter:
    def setup(self) -> None:
        """Load what is loaded once, such as weights from a file beside this one."""

    def predict(self, inputs: list[Input]) -> list[Output]:
        greeting = inputs[0].greeting
        return [Output(text=f"{greeting}, {one.name}!") for one in inputs]
