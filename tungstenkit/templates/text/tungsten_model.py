"""Text in, text out: keeps the sentences of a text that say most of it."""

import re
from collections import Counter

from tungstenkit import BaseIO, Field, Option, define_model

TEXT = (
    "The lighthouse stands on a rock. A keeper lives in the lighthouse and lights the lamp each night. "
    "It rains often. Ships see the lamp of the lighthouse from far away and keep off the rock."
)


class Input(BaseIO):
    text: str = Field(min_length=1, max_length=100_000)
    sentences: int = Option(2, ge=1, le=20, description="How many are kept")


class Output(BaseIO):
    summary: str
    keywords: list[str] = Field(description="The words that count most")


@define_model(
    input=Input,
    output=Output,
    batch_size=8,
    mem_gb=1,
    python_packages=[],  # such as "transformers" and "torch"
    examples=[{"text": TEXT}, {"text": TEXT, "sentences": 1}],
)
class Summarizer:
    def setup(self) -> None:
        """Load your model and its tokenizer here. What they are made of comes into the image by `files=[…]`."""

    def predict(self, inputs: list[Input]) -> list[Output]:
        sentences = inputs[0].sentences  # all options are equal within a batch
        return [summarize(one.text, sentences) for one in inputs]


def summarize(text: str, number: int) -> Output:
    """Your own code in place of this: it rates a sentence by how often its longer words are in the text."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    counts = Counter(word for word in words(text) if len(word) > 3)
    rated = [sum(counts[word] for word in words(sentence)) for sentence in sentences]
    best = sorted(range(len(sentences)), key=lambda place: -rated[place])[:number]
    return Output(
        summary=" ".join(sentences[place] for place in sorted(best)),
        keywords=[word for word, _ in counts.most_common(5)],
    )


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
