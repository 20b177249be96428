"""A model to start from: greets each name that it is given."""

from tungstenkit import BaseIO, Field, Option, define_model


class Input(BaseIO):
    name: str = Field(description="Who is greeted", min_length=1)
    greeting: str = Option("Hello", choices=["Hello", "Good evening"])


class Output(BaseIO):
    text: str


@define_model(
    input=Input,
    output=Output,
    batch_size=8,
    python_packages=[],  # such as "torch==2.6.0"
    system_packages=[],  # such as "libsndfile1": names of apt's
)
class Greeter:
    def setup(self) -> None:
        """Load what is loaded once, such as weights from a file beside this one."""

    def predict(self, inputs: list[Input]) -> list[Output]:
        # All options are equal within a batch.
        greeting = inputs[0].greeting
        return [Output(text=f"{greeting}, {one.name}!") for one in inputs]
