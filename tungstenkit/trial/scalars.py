"""Texts and numbers to try a model with: a usual one, and those at the edges of what a schema allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tungstenkit.trial.admits import Schema, admits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Value = tuple[str, Any]
"""What is particular about a value, in a few words, and the value."""

_LONG_TEXT = 2000

_TEXTS = (
    ("text", "A small brown dog runs over the grass."),
    ("empty", ""),
    ("a letter", "a"),
    ("letters of many scripts", "Größe, città, 日本語, العربية, 🙂"),
    ("two lines and a tab", "one\ttwo\nthree"),
)
# Where a pattern is declared, the first of these that fits is the usual value: what patterns are mostly about.
_PATTERN_TEXTS = (
    *(
        "a",
        "A",
        "0",
        "1",
        "ab",
        "AB",
        "abc",
        "en",
        "en-US",
        "de_DE",
        "text",
        "Text",
        "a-b",
        "a_b",
        "12",
        "123",
        "1234",
    ),
    *(
        "12:30",
        "12:30:00",
        "2024-01-31",
        "2024-01-31T12:30:00Z",
        "#ffcc00",
        "ffcc00",
        "1.5",
        "1.2.3",
        "-1",
        "user@host.org",
    ),
    *(
        "https://host.org/path",
        "/path/file.txt",
        "file.png",
        "+491234567",
        "12345",
        "123456",
        "1234567890",
        "a b",
        "x=1",
    ),
    "00000000-0000-4000-8000-000000000000",
)


def numbers(schema: Schema, *, whole: bool) -> Iterator[Value]:
    """Numbers that a schema allows; whole: as integers."""
    multiple: float | None = schema.get("multipleOf", 1 if whole else None)
    limits: dict[str, float] = schema
    low = limits.get("minimum", limits.get("exclusiveMinimum", -math.inf))
    high = limits.get("maximum", limits.get("exclusiveMaximum", math.inf))
    # Within bounds that are excluded, too.
    step = multiple or min(0.25, (high - low) / 4)

    def even(number: float, edge: Callable[[float], int] = math.floor) -> float:
        return number if multiple is None or math.isinf(number) else edge(number / multiple) * multiple

    bottom, top = even(low, math.ceil), even(high)
    middle = next(
        (one for one in ((low + high) / 2, low + step, high - step) if math.isfinite(one)), multiple or 1
    )
    candidates = [
        ("a usual number", even(middle)),
        *(
            ("the least", one)
            for one in (bottom, bottom + step)
            if math.isfinite(one) and admits(schema, one)
        ),
        *(("the most", one) for one in (top, top - step) if math.isfinite(one) and admits(schema, one)),
        *(
            ("zero", 0),
            ("one", 1),
            ("minus one", -1),
            ("a hundred", 100),
            ("a fraction", 0.1),
            ("a small number", 1e-6),
        ),
    ]
    seen = set()
    for what, number in candidates:
        if number not in seen and admits(schema, number):
            seen.add(number)
            yield f"{what}, {number:g}", int(number) if whole else number


def texts(schema: Schema) -> Iterator[Value]:
    """Texts that a schema allows."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if "pattern" in schema:
        found = [text for text in _PATTERN_TEXTS if admits(schema, text)]
        yield from ((f"the text {text!r}", text) for text in found[:4])
        return
    seen = set()
    longest = int(min(most, max(_LONG_TEXT, least)))
    candidates = [
        *(
            (
                what,
                (text * (least // max(1, len(text)) + 1))[: max(least, min(len(text), longest))]
                if text
                else "",
            )
            for what, text in _TEXTS
        ),
        (f"{least} letters", "a" * least),
        (f"{longest} letters", "long text " * (longest // 10) + "a" * (longest % 10)),
    ]
    for what, text in candidates:
        if text not in seen and admits(schema, text):
            seen.add(text)
            yield what, text
