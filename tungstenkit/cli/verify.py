"""`tungsten verify` and `tungsten diff`: an image built again and compared, and two images told apart."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tungstenkit.cli.arguments import PlatformOfIndex

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.prove.comparison import Difference, LayerDifference
    from tungstenkit.prove.diff import Here, Side, Told
    from tungstenkit.prove.verify import Verdict

_REBUILDS = 5
"""The exit status of what is built again to the same bytes, by what is no tungsten's that is known."""
_DIFFERS = 1
_CONFIGURED = 100
"""Letters of what a config says that are shown."""

Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


def verify_command(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="An image in a registry, the folder of an image layout, or an archive."
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            metavar="REF|FOLDER",
            help="Where else its export, inputs and signatures are kept: another image, a folder of `fetch --to`, an "
            "export. Again for more.",
        ),
    ] = None,
    platform: PlatformOfIndex = None,
    rerun: Annotated[
        bool,
        typer.Option(
            "--rerun",
            help="Run post_build and each RUN --network=default again, with the network; else their recorded results "
            "are inputs.",
        ),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="PUBLIC",
            exists=True,
            dir_okay=False,
            help="The public key (PEM) of who must have signed it, as `push --sign` does.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove an image: build it again, and compare.

    It is built of what is kept beside it, and compared layer by layer.

    Exit status 0: proved. 1: it differs, or something is damaged or missing. 5: it is the same, but built by
    what is of no tungsten that this one knows.
    """
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.prove.verify import verify

    public = None
    if key is not None:
        from tungstenkit.bill.signature import PublicKey

        public = PublicKey.read(key)
    found = verify(reference, inputs or (), TERMINAL, platform=platform, rerun=rerun, key=public)
    if as_json:
        print(json.dumps(_verdict_json(found), indent=2, sort_keys=True))
    else:
        for line in (*_signed_lines(found), *_verdict_lines(found)):
            print(line)
    if found.word != "proved":
        raise typer.Exit(_REBUILDS if found.word == "rebuilds" else _DIFFERS)


def diff_command(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A model that was built here, by its folder or name; or what `verify` takes."
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    *,
    platform: PlatformOfIndex = None,
    as_json: Json = False,
) -> None:
    """Tell two images apart. By packages, files, sizes, labels and other configuration, and layers that both have."""
    from tungstenkit.cli.terminal import TERMINAL
    from tungstenkit.prove.diff import diff

    found = diff(_target(first, platform), _target(second, platform), TERMINAL, platform)
    if as_json:
        print(json.dumps(_diff_json(found), indent=2, sort_keys=True))
        return
    for line in _diff_lines(found):
        print(line)


def _target(target: str, platform: str | None) -> str | Here:
    """What was built here, or a reference as it is."""
    from tungstenkit.models.built import layout_of
    from tungstenkit.prove.diff import Here

    layout = layout_of(target, platform)
    return Here(target, layout) if layout is not None else target


def _signed_lines(found: Verdict) -> Iterator[str]:
    if found.signed is not None:
        from tungstenkit.bill import cyclonedx, spdx
        from tungstenkit.bill.provenance import PROVENANCE
        from tungstenkit.bill.signature import SIGNED_IMAGE

        words = {
            SIGNED_IMAGE: "the image",
            PROVENANCE: "where it is from (SLSA provenance)",
            spdx.MEDIA_TYPE: "what is in it (SPDX)",
            cyclonedx.MEDIA_TYPE: "what is in it (CycloneDX)",
        }
        kinds = {one.kind for one in found.signed.statements} | {*found.signed.bills}
        said = [words[kind] for kind in words if kind in kinds] + sorted(kinds - words.keys())
        yield f"{_plain(found.name)}@{found.digest} is signed by this key: {_plain(', '.join(said))}"
        yield from (f"passed over: {_plain(one)}" for one in found.signed.passed_over)


def _verdict_lines(found: Verdict) -> Iterator[str]:
    image = f"{_plain(found.name)}@{found.digest}"
    repacked = ""
    if found.difference.repacked:
        numbers = ", ".join(map(str, found.difference.repacked))
        repacked = f" (an engine has packed layers {numbers} anew: what is in them is the same)"
    elif found.difference.is_none and found.digest != found.rebuilt:
        repacked = f" (an engine has written its manifest anew, which was {found.rebuilt})"
    if found.word == "proved":
        yield (
            f"{image} is proved: tungsten {found.maker.version} builds it again from its export and {found.files} "
            f"inputs, layer by layer the same{repacked}"
        )
        return
    strange = (
        f"{', '.join(found.maker.strange)} of its export {'is' if len(found.maker.strange) == 1 else 'are'}"
    )
    if found.word == "rebuilds":
        yield (
            f"{image} rebuilds, and is not proved: it is layer by layer the same{repacked}, but {strange} of no "
            "tungsten that this one knows, and could make any bytes"
        )
        return
    yield f"{image} differs from what its export builds, {found.rebuilt}:"
    yield from _difference_lines(found.difference, ("the image", "what was built"))
    if found.maker.version is None:
        yield f"{strange} of no tungsten that this one knows"


def _diff_lines(found: Told) -> Iterator[str]:
    from rich.filesize import decimal

    sides = (found.first, found.second)
    for label, side in zip(("A", "B"), sides, strict=True):
        yield (
            f"{label} {_plain(side.name)}@{side.digest}, {side.platform or 'of an unknown platform'}: "
            f"{side.layers} layers, {decimal(side.size)}"
        )
    if found.first.digest == found.second.digest:
        yield "they are the same image"
        return
    yield f"{found.shared} layers are in both, {decimal(found.shared_size)} of A's {decimal(found.first.size)}"
    for package in found.packages:
        old, new = (" and ".join(versions) or "not there" for versions in (package.first, package.second))
        yield f"{_plain(package.name)}: {_plain(old)} -> {_plain(new)}"
    yield from _difference_lines(found.difference, ("A", "B"))
    if found.difference.repacked:
        yield f"layers {', '.join(map(str, found.difference.repacked))} are packed in another way"
    if found.difference.is_none and not found.difference.repacked:
        yield "only their manifests differ"


def _difference_lines(difference: Difference, names: tuple[str, str]) -> Iterator[str]:
    for place, (old, new) in difference.config.items():
        yield f"config, {_plain(place)}: {_configured(old)} in {names[0]}, {_configured(new)} in {names[1]}"
    for layer in difference.layers:
        yield from _layer_lines(layer, names)


def _layer_lines(layer: LayerDifference, names: tuple[str, str]) -> Iterator[str]:
    numbers = [
        f"layer {number} of {name}"
        for number, name in zip((layer.first, layer.second), names, strict=True)
        if number is not None
    ]
    if len(numbers) == 1:
        numbers[0] = f"only {numbers[0]}"
    elif layer.first == layer.second:
        numbers = [f"layer {layer.first}"]
    made_of = layer.made_of if len(layer.made_of) <= _CONFIGURED else f"{layer.made_of[:_CONFIGURED]}…"
    yield f"{', '.join(numbers)}{f' ({_plain(made_of)})' if made_of else ''}:"
    for file in layer.files:
        kinds = ", ".join(_KINDS.get(kind, kind).format(*names) for kind in file.kinds)
        yield f"  {_plain(file.path)}: {kinds}{f'; of {_plain(file.input)}' if file.input else ''}"
        for line in file.told:
            yield f"    {_plain(line)}"
    if not layer.files and None not in (layer.first, layer.second):
        yield "  its files are the same; their order differs, or some stand there twice"
    if layer.more:
        yield f"  and {layer.more} more files"


_KINDS = {"missing": "only in {0}", "added": "only in {1}"}


def _configured(value: object) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, sort_keys=True)
    return _plain(text if len(text) <= _CONFIGURED else f"{text[:_CONFIGURED]}…")


def _plain(text: str) -> str:
    """What may be anybody's words, as a terminal may have them."""
    from tungstenkit.outside import plain

    return plain(text).replace("\n", "\\n")


def _verdict_json(found: Verdict) -> dict[str, Any]:
    return {
        "verdict": found.word,
        "image": found.name,
        "digest": found.digest,
        "platform": found.platform,
        "rebuilt": found.rebuilt,
        "export": found.export,
        "tungsten": found.maker.version,
        "unknown-parts": list(found.maker.strange),
        "inputs": {"files": found.files, "size": found.size},
        "read": found.read,
        "signed": sorted({one.kind for one in found.signed.statements}) if found.signed is not None else None,
        **_difference_json(found.difference),
    }


def _diff_json(found: Told) -> dict[str, Any]:
    return {
        "first": _side_json(found.first),
        "second": _side_json(found.second),
        "shared": {"layers": found.shared, "size": found.shared_size},
        "packages": [
            {"name": one.name, "first": list(one.first), "second": list(one.second)} for one in found.packages
        ],
        **_difference_json(found.difference),
    }


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "image": side.name,
        "digest": side.digest,
        "platform": side.platform,
        "size": side.size,
        "layers": side.layers,
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    return {
        "config": {place: list(both) for place, both in difference.config.items()},
        "repacked": list(difference.repacked),
        "layers": [
            {
                "first": layer.first,
                "second": layer.second,
                "made-of": layer.made_of,
                "more": layer.more,
                "files": [
                    {
                        "path": file.path,
                        "differs-in": list(file.kinds),
                        "told": list(file.told),
                        "input": file.input,
                    }
                    for file in layer.files
                ],
            }
            for layer in difference.layers
        ],
    }
