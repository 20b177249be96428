"""`tungsten doctor`: what this machine has for building and running images, what it lacks, and what mends that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.doctor.examine import Examination
    from tungstenkit.doctor.finding import Finding

_MARKS = {"ok": "ok", "lacking": "lacks", "unsure": "?"}


def doctor_command(
    *,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Ask no server: all that is needed was fetched, or carried here."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Try what builds and containers need of this machine.

    What is lacking is said, with what that means, and what mends it. Exit status 1 where nothing can be built.
    """
    from tungstenkit.cli.terminal import slow
    from tungstenkit.doctor.examine import examine

    with slow("looking at this machine"):
        found = examine(offline=offline)
    if as_json:
        print(json.dumps(_document(found), ensure_ascii=False, indent=2, sort_keys=True))
    else:
        for line in doctor_lines(found):
            print(line)
    if not found.can_build:
        raise typer.Exit(1)


def doctor_lines(found: Examination) -> Iterator[str]:
    """What a person reads: a line for each thing, then what is lacking, what needs it first."""
    from tungstenkit.outside import plain

    linux = found.linux
    around = [f"a container of {linux.container}"] if linux.container else []
    around += [f"WSL{linux.wsl}"] if linux.wsl else []
    width = max(len(one.lack.name) for one in found.findings)
    lines = [f"{linux.name}{', in ' if around else ''}{' and '.join(around)}", ""]
    lines += [
        f"{_mark(one):<7}  {one.lack.name:<{width}}  {one.found}".replace("\n", " ") for one in found.findings
    ]
    missing = [one for one in found.findings if one.state.value == "lacking"]
    for one in sorted(missing, key=lambda one: not one.lack.is_needed):
        lines += ["", f"{one.lack.name}: {one.lack.means}", *(f"    {line}" for line in _mends(one))]
    lines += ["", _judgement(found)]
    # What servers and programs have said is among it.
    yield from map(plain, lines)


def _mark(one: Finding) -> str:
    return "without" if one.state.value == "lacking" and not one.lack.is_needed else _MARKS[one.state.value]


def _mends(one: Finding) -> Iterator[str]:
    """The remedies, each on its line; a command can be pasted as it stands."""
    for remedy in one.remedies:
        if not remedy.command:
            yield from remedy.says.splitlines()
            continue
        beside = ", ".join(filter(None, ["as root" if remedy.as_root else "", remedy.says]))
        yield f"{remedy.command}{f'    # {beside}' if beside else ''}"


def _judgement(found: Examination) -> str:
    if not found.can_build:
        names = dict.fromkeys(one.lack.name for one in found.findings if one.forbids_building)
        return f"nothing can be built here for want of: {', '.join(names)}"
    without = dict.fromkeys(one.lack.name for one in found.findings if one.state.value == "lacking")
    return "images can be built here" + (f"; without: {', '.join(without)}" if without else "")


def _document(found: Examination) -> dict[str, Any]:
    linux = found.linux
    return {
        "can-build": found.can_build,
        "system": {
            "name": linux.name,
            "family": linux.family,
            "container": linux.container,
            "wsl": linux.wsl,
        },
        "findings": [
            {
                "name": one.lack.name,
                "state": one.state.value,
                "is-needed": one.lack.is_needed,
                "found": one.found,
                "means": one.lack.means,
                "remedies": [
                    {"command": remedy.command, "as-root": remedy.as_root, "says": remedy.says}
                    for remedy in one.remedies
                ],
            }
            for one in found.findings
        ],
    }
