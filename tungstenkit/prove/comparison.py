"""Two images told apart: by their layers' tars, by what is in those that differ, and by what their configs say.

How layers are packed is no difference, but is told: engines pack anew what they push.
"""

from __future__ import annotations

import difflib
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tungstenkit.prove.layers import members, read, unpacked
from tungstenkit.seal.differences import content_difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from tungstenkit.prove.image import Image
    from tungstenkit.prove.layers import Member

_TOLD = 50
"""Files of a layer that are told of one by one."""
_LOOKED_INTO = 1 << 20
"""Bytes of a file in which the place of a difference is sought."""


@dataclass(frozen=True)
class FileDifference:
    """A path of which two layers say different things."""

    path: str
    kinds: tuple[str, ...]
    """`content`, `mode`, `owner`, `time`, `attributes`, `kind`, `target`; or `missing`, which only the first has, or
    `added`.
    """
    told: tuple[str, ...]
    """What the first says, and the second."""
    input: str = ""
    """Which input it is from: a package, a file's name, or what else the layer is made of."""


@dataclass(frozen=True)
class LayerDifference:
    """A layer that the other image has not, or has otherwise."""

    first: int | None
    """Its number in the first image, the lowest being 1."""
    second: int | None
    made_of: str
    files: tuple[FileDifference, ...] = ()
    """None where only one image has the layer, and where the tars differ in what is no file's: their order, or what
    stands there twice.
    """
    more: int = 0
    """Of files that differ and are not among `files`."""


@dataclass(frozen=True)
class Difference:
    """What is not the same in two images."""

    config: Mapping[str, tuple[Any, Any]]
    """What the configs say otherwise, by its place there; None is for nothing."""
    layers: tuple[LayerDifference, ...]
    repacked: tuple[int, ...]
    """The numbers of layers of the first that hold the same bytes, packed in another way."""

    @property
    def is_none(self) -> bool:
        """Whether the two are the same but for how layers are packed."""
        return not self.config and not self.layers


def compare(first: Image, second: Image, scratch: Path) -> Difference:
    """How an image differs from another. scratch: a folder with room for two layers as they are unpacked."""
    layers, repacked = [], []
    for one, other in _pairs(first, second):
        if one is not None and other is not None and first.diff_ids[one] == second.diff_ids[other]:
            if first.layers[one].digest != second.layers[other].digest:
                repacked.append(one + 1)
        elif one is not None and other is not None:
            layers.append(_layer_difference(first, one, second, other, scratch))
        else:
            image, number = (first, one) if one is not None else (second, other)
            assert number is not None
            made_of = image.made_of(number)
            layers.append(
                LayerDifference(
                    one if one is None else one + 1, other if other is None else other + 1, made_of
                )
            )
    # What layers that differ are made of is told with them.
    told = _told_apart(first.config, second.config, {("history",)} if layers else set())
    return Difference(told, tuple(layers), tuple(repacked))


def _pairs(first: Image, second: Image) -> Iterator[tuple[int | None, int | None]]:
    """Which layer of one image stands for which of the other: those that are the same, and between them in order.

    Where there are more on one side, those that are said to be made of the same are paired.
    """
    matcher = difflib.SequenceMatcher(a=first.diff_ids, b=second.diff_ids, autojunk=False)
    for _, start, end, other_start, other_end in matcher.get_opcodes():
        mine, others = [*range(start, end)], [*range(other_start, other_end)]
        if len(mine) == len(others):
            yield from zip(mine, others, strict=True)
            continue
        for one in mine:
            same = [other for other in others if second.made_of(other) == first.made_of(one)]
            found = same[0] if same else None
            if found is not None:
                others.remove(found)
            yield one, found
        yield from ((None, other) for other in others)


def _layer_difference(first: Image, one: int, second: Image, other: int, scratch: Path) -> LayerDifference:
    with ExitStack() as stack:
        tars: list[IO[bytes]] = []
        for image, number in ((first, one), (second, other)):
            blob = stack.enter_context(image.layer(number))
            tars.append(stack.enter_context(unpacked(blob, image.layer_name(number), scratch)))
        old = members(tars[0], first.layer_name(one))
        new = members(tars[1], second.layer_name(other))
        differing = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
        shown = differing[:_TOLD]
        contents = [
            read(tar, {path for path in shown if path in old and path in new}, _LOOKED_INTO, name)
            for tar, name in zip(tars, (first.layer_name(one), second.layer_name(other)), strict=True)
        ]
    # What was built here says whose each file is.
    owners = second.owners(other) or first.owners(one)
    made_of = second.made_of(other) or first.made_of(one)
    found = tuple(
        _file_difference(
            path,
            (old.get(path), new.get(path)),
            (contents[0].get(path, b""), contents[1].get(path, b"")),
            owners.get(path, made_of),
        )
        for path in shown
    )
    return LayerDifference(one + 1, other + 1, made_of, found, len(differing) - len(shown))


def _file_difference(
    path: str, both: tuple[Member | None, Member | None], contents: tuple[bytes, bytes], owner: str
) -> FileDifference:
    old, new = both
    if old is None or new is None:
        return FileDifference(path, ("added" if old is None else "missing",), (), owner)
    if old.kind != new.kind:
        return FileDifference(path, ("kind",), (f"a {old.kind} and a {new.kind}",), owner)
    found: dict[str, list[str]] = {}
    if old.sha256 != new.sha256:
        found["content"] = [
            *content_difference(iter([contents[0]]), iter([contents[1]]), old.size, new.size)
        ] or [f"{old.size} and {new.size} bytes, which differ beyond the first {_LOOKED_INTO}"]
    if old.mode != new.mode:
        found["mode"] = [f"mode {old.mode:04o} and {new.mode:04o}"]
    if old.owner != new.owner:
        found["owner"] = [
            "owner " + " and ".join(f"{user}:{group}" for user, group in (old.owner, new.owner))
        ]
    if old.time != new.time:
        found["time"] = [f"time {old.time:g} and {new.time:g}"]
    if old.attributes != new.attributes:
        found["attributes"] = [
            f"{name}: {dict(old.attributes).get(name, 'nothing')!a} and {dict(new.attributes).get(name, 'nothing')!a}"
            for name in sorted({name for name, _ in {*old.attributes} ^ {*new.attributes}})
        ]
    if old.target != new.target:
        found["target"] = [f"leads to {old.target} and to {new.target}"]
    told = tuple(line for lines in found.values() for line in lines)
    return FileDifference(path, tuple(found), told, owner)


_Fact = tuple[str, ...]
"""Where in a config something is said, key by key: whoever wrote it has chosen the keys, so that no text names two."""


def _told_apart(
    first: Mapping[str, Any], second: Mapping[str, Any], without: set[_Fact]
) -> dict[str, tuple[Any, Any]]:
    """What two configs say otherwise, by what people call it."""
    old, new = _facts(first), _facts(second)
    differing = [
        fact for fact in sorted({*old, *new} - without, key=_called) if old.get(fact) != new.get(fact)
    ]
    names = Counter(map(_called, differing))
    return {
        (_called(fact) if names[_called(fact)] == 1 else " ".join(fact)): (old.get(fact), new.get(fact))
        for fact in differing
    }


def _facts(config: Mapping[str, Any]) -> dict[_Fact, Any]:
    """What a config says, one by one: what differs in a list of variables is the variable.

    Without the layers' digests: those are compared by themselves.
    """
    found: dict[_Fact, Any] = {}
    for name, value in config.items():
        if name == "history" and isinstance(value, list):
            # That each step was made when the image was is said once.
            found[name,] = [_without_date(one, config.get("created")) for one in value]
        elif name in ("config", "rootfs") and isinstance(value, dict):
            for key, part in value.items():
                found |= _inner_facts((name, key), part)
        else:
            found[name,] = value
    found.pop(("rootfs", "diff_ids"), None)
    return found


def _inner_facts(place: _Fact, part: object) -> dict[_Fact, Any]:
    if place == _LABELS and isinstance(part, dict):
        return {(*place, label): text for label, text in part.items()}
    if place == _VARIABLES and isinstance(part, list):
        pairs = [str(one).partition("=") for one in part]
        variables: dict[_Fact, Any] = {(*place, variable): text for variable, equals, text in pairs if equals}
        # Of a variable that stands there twice a container may get either.
        if len(variables) == len(part):
            return variables
    return {place: part}


_LABELS: _Fact = ("config", "Labels")
_VARIABLES: _Fact = ("config", "Env")


def _called(fact: _Fact) -> str:
    """What a person calls it."""
    kinds = {_LABELS: "label ", _VARIABLES: "variable "}
    return f"{kinds.get(fact[:-1], '')}{fact[-1]}"


def _without_date(step: object, created: object) -> object:
    if not isinstance(step, dict) or step.get("created") != created:
        return step
    return {name: value for name, value in step.items() if name != "created"}
