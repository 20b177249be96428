"""Writes the ONNX template's `model.onnx`, by the format's own definition (`onnx.proto`, a protocol buffer), so that
what is in that file can be read, and changed, without onnx: `python -m tests.onnx_file`.

Each pixel gets the label whose colour it is nearest to, and a label's score is its part of the pixels.
"""

import struct
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "tungstenkit" / "templates" / "onnx"
COLORS = {
    "black": (0, 0, 0),
    "white": (1, 1, 1),
    "red": (1, 0, 0),
    "yellow": (1, 1, 0),
    "green": (0, 0.6, 0),
    "blue": (0, 0, 1),
}
SHARPNESS = 40
"""How much nearer a colour must be to be the only one that counts."""
FLOAT = 1
INT = 2


def varint(number):
    found = b""
    while number >= 0x80:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def field(number, value):
    """One field of a message: an int, a text, or what is a message itself."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(*fields):
    return b"".join(field(number, value) for number, value in fields)


def tensor(name, shape, values):
    data = struct.pack(f"<{len(values)}f", *values)
    return message(*((1, size) for size in shape), (2, FLOAT), (8, name), (9, data))


def value_info(name, *shape):
    """A value's name and form; a text in place of a size stands for any."""
    sizes = [(1, message((2 if isinstance(size, str) else 1, size))) for size in shape]
    return message((1, name), (2, message((1, message((1, FLOAT), (2, message(*sizes)))))))


def node(operator, inputs, output, **attributes):
    written = [(5, message((1, name), (3, value), (20, INT))) for name, value in sorted(attributes.items())]
    return message(*((1, name) for name in inputs), (2, output), (4, operator), *written)


def model():
    """The distance to a colour c is |x|² - 2cx + |c|², and |x|² is the same for all: a convolution of one pixel."""
    weights = [2 * SHARPNESS * part for color in COLORS.values() for part in color]
    biases = [-SHARPNESS * sum(part * part for part in color) for color in COLORS.values()]
    graph = message(
        (1, node("Conv", ["image", "weights", "biases"], "near")),
        (1, node("Softmax", ["near"], "parts", axis=1)),
        (1, node("GlobalAveragePool", ["parts"], "means")),
        (1, node("Flatten", ["means"], "scores")),
        (2, "colors"),
        (5, tensor("weights", (len(COLORS), 3, 1, 1), weights)),
        (5, tensor("biases", (len(COLORS),), biases)),
        (11, value_info("image", "batch", 3, "height", "width")),
        (12, value_info("scores", "batch", len(COLORS))),
    )
    # Of the format's eighth version, which every onnxruntime of these years reads; operators of the 13th set.
    return message((1, 8), (7, graph), (8, message((2, 13))))


if __name__ == "__main__":
    (TEMPLATE / "model.onnx").write_bytes(model())
