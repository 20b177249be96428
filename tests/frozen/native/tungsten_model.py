"""A model that is built from source with a compiler; `take` locks it for what its build needs."""

from tungstenkit import BaseIO, define_model


class Input(BaseIO):
    number: int


class Output(BaseIO):
    number: int


@define_model(input=Input, output=Output, python_packages=["./native"])
class Native:
    def predict(self, inputs):
        return [Output(number=one.number) for one in inputs]
