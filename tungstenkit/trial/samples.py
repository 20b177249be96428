"""Inputs to try a model with, made from its input schema in normal form (`schema.json_schema`).

There are valid ones at the edges of what it allows, and ones that break each of its rules.

A function of the schema and a seed: the same inputs on every machine. Files are small and real.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from tungstenkit.trial.admits import Schema, admits
from tungstenkit.trial.files import FILES, data_uri, encoded, picture_of, picture_uri
from tungstenkit.trial.scalars import Value, numbers, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONG_LIST = 20
_CHOICES = 20
_MIXED = 6


@dataclass(frozen=True)
class Sample:
    """One input to send."""

    what: str
    value: Any
    """JSON."""


@dataclass(frozen=True)
class Samples:
    """Inputs for one schema."""

    valid: list[Sample]
    invalid: list[Sample]
    """The server refuses them (422)."""
    broken: list[Sample]
    """Valid by the schema, with files that are not what they are called, or that a model need not take: a prediction
    that fails, and nothing worse.
    """
    gaps: list[str]
    """Fields that no value is known for, each with the reason."""


def make_samples(schema: Schema, seed: int = 0, known: dict[str, Any] | None = None) -> Samples:
    """Inputs for an object schema.

    seed: of the mixed ones, and of pictures' contents. known: an input that the model takes, for the fields that are
    not varied.
    """
    maker = _Maker(seed)
    fields: dict[str, list[Value]] = {}
    for name, field in _declared(schema).items():
        fields[name] = maker.values(field, name, *([known[name]] if known and name in known else []))
    required = [name for name in schema.get("required", ()) if name in fields]
    if any(not fields[name] for name in required):
        return Samples([], [], [], maker.gaps)
    usual = {name: fields[name][0][1] for name in required}
    options = {
        name: field["default"] if "default" in field else fields[name][0][1]
        for name, field in _declared(schema).items()
        if name not in required and ("default" in field or fields[name])
    }
    valid = [Sample("required fields alone" if options else "usual values", usual)]
    if options:
        valid.append(Sample("every option given", {**usual, **options}))
    for name, values in fields.items():
        valid += [Sample(f"{name}: {what}", {**usual, name: value}) for what, value in values]
    chance = random.Random(seed)  # noqa: S311 (no secret)
    for number in range(_MIXED if len(fields) > 1 else 0):
        mixed = {
            name: chance.choice(values)[1]
            for name, values in fields.items()
            if values and (name in required or chance.random() < 0.7)
        }
        valid.append(Sample(f"mixed {number + 1}", mixed))
    return Samples(
        _without_repetition(valid),
        _without_repetition(list(_invalid(schema, usual, maker))),
        _without_repetition(
            [
                Sample(f"{name}: {what}", {**usual, name: value})
                for name, field in _declared(schema).items()
                for what, value in maker.broken(field)
            ]
        ),
        maker.gaps,
    )


def _declared(schema: Schema) -> dict[str, Schema]:
    """The fields of an object, in the order in which they are declared."""
    properties: dict[str, Schema] = schema.get("properties", {})
    return {name: properties[name] for name in schema.get("x-order", properties)}


def _invalid(schema: Schema, usual: dict[str, Any], maker: _Maker) -> Iterator[Sample]:
    for what, value in (("a text", "text"), ("a list", []), ("null", None)):
        yield Sample(f"the whole input: {what}", value)
    for name in schema.get("required", ()):
        yield Sample(f"{name}: left out", {key: value for key, value in usual.items() if key != name})
    for name, field in _declared(schema).items():
        for what, value in maker.wrong(field):
            yield Sample(f"{name}: {what}", {**usual, name: value})
    if schema.get("additionalProperties") is False:
        yield Sample("an unknown field", {**usual, "no_such_field": 1})


def _without_repetition(samples: list[Sample]) -> list[Sample]:
    found: dict[str, Sample] = {}
    for sample in samples:
        found.setdefault(json.dumps(sample.value, sort_keys=True), sample)
    return list(found.values())


class _Maker:
    """Makes values; the first of each list is the usual one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.gaps: list[str] = []

    def values(self, schema: Schema, where: str, *known: Any) -> list[Value]:  # noqa: ANN401 (JSON)
        """Valid values, the known ones first; none where none is known, which is noted."""
        found = [*(("as in an input that works", value) for value in known), *self._values(schema, where)]
        if not found and not any(gap.startswith(where) for gap in self.gaps):
            self.gaps.append(f"{where}: no value is known that fits {json.dumps(schema)[:200]}")
        return found

    def _values(self, schema: Schema, where: str) -> Iterator[Value]:
        if "enum" in schema:
            yield from ((f"the choice {_short(value)}", value) for value in schema["enum"][:_CHOICES])
            return
        if "anyOf" in schema:
            for choice in schema["anyOf"]:
                yield from self.values(choice, where)
            return
        if schema.get("x-file-type") == "masked_image":
            yield from self._masked_images()
            return
        if "x-file-type" in schema:
            yield from FILES[schema["x-file-type"]](self.seed)
            return
        kind = schema.get("type")
        if kind in ("integer", "number"):
            yield from numbers(schema, whole=kind == "integer")
        elif kind == "boolean":
            yield from (("true", True), ("false", False))
        elif kind == "string":
            yield from texts(schema)
        elif kind == "array":
            yield from self._lists(schema, where)
        elif kind == "object":
            yield from self._objects(schema, where)
        elif kind == "null":
            yield "null", None
        else:
            yield from (("a text", "text"), ("a number", 1), ("null", None), ("an object", {"a": [1, None]}))

    def _masked_images(self) -> Iterator[Value]:
        for what, size in (("a picture and its mask", (64, 48)), ("one pixel", (1, 1))):
            picture = picture_of(self.seed, size)
            mask = Image.new("L", size, 0)
            mask.paste(255, (0, 0, max(1, size[0] // 2), size[1]))
            yield what, {"image": picture_uri(picture, "PNG"), "mask": picture_uri(mask, "PNG")}

    def _lists(self, schema: Schema, where: str) -> Iterator[Value]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if "prefixItems" in schema:
            each = [
                self.values(item, f"{where}[{place}]") for place, item in enumerate(schema["prefixItems"])
            ]
            yield from _one_after_another({str(place): values for place, values in enumerate(each)}, list)
            return
        items = self.values(schema.get("items", {"type": "string"}), f"{where}[]") if most > 0 else []
        counts = [1, 2, 0, *([most] if most <= _LONG_LIST else [_LONG_LIST]), least]
        for count in dict.fromkeys(count for count in counts if least <= count <= most):
            if items or not count:
                yield (
                    f"{count} {'item' if count == 1 else 'items'}",
                    [items[n % len(items)][1] for n in range(int(count))],
                )
        first = max(1, least)
        if items and first <= most:
            yield from ((what, [value] * first) for what, value in items[1:])

    def _objects(self, schema: Schema, where: str) -> Iterator[Value]:
        fields = {name: self.values(field, f"{where}.{name}") for name, field in _declared(schema).items()}
        required = schema.get("required", ())
        others = schema.get("additionalProperties")
        if not fields and isinstance(others, (dict, bool, type(None))) and others is not False:
            yield from self._dicts(schema, others if isinstance(others, dict) else {"type": "string"}, where)
            return
        if all(fields[name] for name in required):
            yield from _one_after_another(
                {name: values for name, values in fields.items() if values}, dict, required
            )

    def _dicts(self, schema: Schema, items: Schema, where: str) -> Iterator[Value]:
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
        names = schema.get("propertyNames", {})
        if "enum" in names:
            keys = [str(name) for name in names["enum"]]
        elif names.get("pattern") == "^-?[0-9]+$":
            keys = [str(number) for number in range(1, 6)]
        else:
            keys = [text for _, text in texts({**names, "type": "string"})]
        values = self.values(items, f"{where}{{}}")
        for count in dict.fromkeys((1, 2, 0, least, min(most, len(keys)))):
            if least <= count <= min(most, len(keys)) and (values or not count):
                made = {key: values[n % len(values)][1] for n, key in enumerate(keys[: int(count)])}
                yield f"{count} {'key' if count == 1 else 'keys'}", made

    def wrong(self, schema: Schema) -> list[Value]:
        """Values that break one of a schema's rules each, and that no choice of a union allows."""
        if not schema.keys() - {"description", "default"}:
            return []
        choices = schema.get("anyOf", [schema])
        candidates = [value for choice in choices for value in self._wrong(choice)]
        return [(what, value) for what, value in candidates if not any(admits(one, value) for one in choices)]

    def _wrong(self, schema: Schema) -> Iterator[Value]:
        yield from (("a list of null", [None]), ("an object of another kind", {"no such key": None}))
        yield from (
            ("null", None),
            ("true", True),
            ("half a number", 0.5),
            ("a text in place of it", "no such value"),
        )
        for word, step, what in (
            ("minimum", -1, "below the least"),
            ("maximum", 1, "above the most"),
            ("exclusiveMinimum", 0, "the least, which is excluded"),
            ("exclusiveMaximum", 0, "the most, which is excluded"),
        ):
            if word in schema:
                yield what, schema[word] + step
        if "multipleOf" in schema:
            yield "no multiple", schema["multipleOf"] / 2
        if "x-file-type" in schema and schema.get("type") == "string":
            yield from (
                ("no base64", "data:image/png;base64,@@@@"),
                ("a file of the server's", "file:///etc/passwd"),
                ("another scheme", "ftp://host/file"),
                ("an empty text", ""),
            )
        if schema.get("type") == "string":
            if schema.get("minLength", 0) > 0:
                yield "too short", "a" * (schema["minLength"] - 1)
            if schema.get("maxLength", math.inf) <= 1_000_000:
                yield "too long", "a" * (schema["maxLength"] + 1)
            if "pattern" in schema:
                yield "does not fit the pattern", "\u2603 \u2603"
        if schema.get("type") == "array":
            usual: list[Any] = next(iter(self._lists(schema, "")), ("", []))[1]
            item = usual[:1]
            if schema.get("minItems", 0) > 0:
                yield "too few items", (usual * schema["minItems"])[: schema["minItems"] - 1]
            if item and schema.get("maxItems", math.inf) <= 1000:
                yield "too many items", (usual * (schema["maxItems"] + 1))[: schema["maxItems"] + 1]
            for what, value in self.wrong(schema.get("items", {})):
                yield f"an item: {what}", [value] * max(1, schema.get("minItems", 0))
        if schema.get("type") == "object" and "properties" in schema:
            usual_object = next(iter(self._objects(schema, "")), ("", None))[1]
            if schema.get("x-file-type") == "masked_image":
                usual_object = next(self._masked_images())[1]
            if usual_object is not None:
                for name in schema.get("required", ()):
                    yield (
                        f"without {name}",
                        {key: value for key, value in usual_object.items() if key != name},
                    )
                for name, field in schema["properties"].items():
                    for what, value in self.wrong(field):
                        yield f"{name}: {what}", {**usual_object, name: value}

    def broken(self, schema: Schema) -> list[Value]:
        """Pictures that are none, and those with so many grey levels that a model must say how it sees them."""
        if "anyOf" in schema:
            return [value for choice in schema["anyOf"] for value in self.broken(choice)]
        if schema.get("x-file-type") == "masked_image":
            usual, other = (picture_uri(picture_of(self.seed, size), "PNG") for size in ((64, 48), (32, 32)))
            return [("a mask of another size", {"image": usual, "mask": other})]
        if schema.get("x-file-type") == "image":
            whole = encoded(picture_of(self.seed, (64, 48)), "PNG")
            noise = random.Random(self.seed).randbytes(500)  # noqa: S311 (no secret)
            deep = picture_of(self.seed, (64, 48)).convert("L").convert("I;16")
            return [
                ("a picture of 16 bits", picture_uri(deep, "PNG")),
                ("half a picture", data_uri("image/png", whole[: len(whole) // 2])),
                ("noise called a picture", data_uri("image/png", noise)),
                ("no bytes called a picture", "data:image/png;base64,"),
            ]
        if schema.get("type") == "array" and schema.get("maxItems", 1) > 0:
            count = max(1, schema.get("minItems", 0))
            return [(what, [value] * count) for what, value in self.broken(schema.get("items", {}))]
        return []


def _one_after_another(fields: dict[str, list[Value]], make: type, required: Any = None) -> Iterator[Value]:  # noqa: ANN401
    """Lists or dicts whose parts are usual but for one."""
    usual = {name: values[0][1] for name, values in fields.items() if values}
    if make is list and len(usual) < len(fields):
        return

    def made(parts: dict[str, Any]) -> Any:  # noqa: ANN401
        return list(parts.values()) if make is list else parts

    yield "usual values", made(usual)
    if required is not None and len(required) < len(usual):
        yield "required fields alone", made({name: usual[name] for name in required})
    for name, values in fields.items():
        yield from ((f"{name}: {what}", made({**usual, name: value})) for what, value in values[1:])


def _short(value: Any) -> str:  # noqa: ANN401
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
