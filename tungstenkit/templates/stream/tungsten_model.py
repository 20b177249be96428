"""Text that comes word by word: writes on from how a text begins."""

import random
from collections.abc import Generator, Iterator
from itertools import pairwise

from tungstenkit import END, BaseIO, End, Field, Option, define_model

TALE = (
    "the keeper of the lighthouse lights the lamp each night and the ships see the lamp from far away . "
    "the keeper sees the ships and the sea . the sea is wide and the night is long , and the lamp burns . "
    "a ship comes out of the night and the keeper of the lamp waves from far away . "
    "each ship sees the lighthouse , and the sea is still ."
)


class Input(BaseIO):
    prompt: str = Field(min_length=1, max_length=10_000, description="How the text begins")
    words: int = Option(40, ge=1, le=1000, description="How many are written at most")


class Output(BaseIO):
    text: str  # of pieces, texts are put one behind the other
    stopped_at: str | None = None  # and of everything else the last one counts: "sentence" or "length"


@define_model(
    input=Input,
    output=Output,
    batch_size=8,
    mem_gb=1,
    python_packages=[],  # such as "transformers" and "torch"
    examples=[{"prompt": "The keeper of"}, {"prompt": "At night the sea", "words": 5}],
)
class Writer:
    def setup(self) -> None:
        """Load your model here. This one knows which words follow which."""
        self.following: dict[str, list[str]] = {}
        words = TALE.split()
        for word, next_word in pairwise(words):
            self.following.setdefault(word, []).append(next_word)

    def predict(self, inputs: list[Input]) -> Generator[list[Output | End | None], list[bool], None]:
        """Each step yields a list with a piece for each input, None where there is none, or END.

        What `yield` returns says of each input whether nobody waits for it any more: it has ended, or its client has
        gone. When that is so for all of them, this generator is closed.
        """
        writers: list[Iterator[Output | End]] = [self.write(one.prompt, one.words) for one in inputs]
        gone = [False] * len(inputs)
        while not all(gone):
            pieces = [
                None if is_gone else next(writer) for writer, is_gone in zip(writers, gone, strict=True)
            ]
            gone = yield pieces

    def write(self, prompt: str, most: int) -> Iterator[Output | End]:
        """Your own code in place of this: it writes one word after the other."""
        chance = random.Random(prompt)  # the same text for the same prompt
        word = prompt.lower().split()[-1] if prompt.split() else ""
        for _ in range(most):
            word = chance.choice(self.following.get(word, ["the"]))
            yield Output(text=word if word in ",." else f" {word}")
            if word == ".":
                yield Output(text="", stopped_at="sentence")
                break
        else:
            yield Output(text="", stopped_at="length")
        yield END
