"""What all models share, so that images share its layers: the server's environment, and the tools that builds run.

The pins that came with tungsten (`shared_pins.json`) come first.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING

from tungstenkit.data import OWN_WHEELS
from tungstenkit.debian.release import RELEASES, TOOLS_RELEASE
from tungstenkit.document import Document
from tungstenkit.lock.parts import Busybox, PythonRoot, ServerEnvironment, Tools
from tungstenkit.platforms import Target
from tungstenkit.resolve.debs import apart, locked_debs
from tungstenkit.resolve.targets import NEWEST_FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tungstenkit.lock.document import Lock
    from tungstenkit.resolve.solver import Solver

_TOOLS = "the tools that builds run"
_BASH, _BUSYBOX = "bash-static", "busybox-static"


def resolve_server(target: Target, solver: Solver, previous: Lock | None) -> ServerEnvironment:
    """The server's environment for a target, with the pins that all models share where there are such."""
    pinned = previous.server.get(target.system) if previous else None
    if pinned is None or pinned.python != target.python:
        pinned = shared_pins(target).server
    wheels = solver.wheels(
        target,
        OWN_WHEELS["server"]["requires"],
        "the server's environment",
        pinned.wheels if pinned else (),
    )
    return ServerEnvironment(python=target.python, wheels=wheels)


def resolve_tools(target: Target, solver: Solver, previous: Lock | None, beside: Sequence[str]) -> Tools:
    """The tools that builds run on a platform.

    target: of what they compile. beside: packages of programs that they need, too.
    """
    solver.report(f"solving {_TOOLS} on {target.system}")
    pinned = previous.tools.get(target.system) if previous else None
    if pinned is None or pinned.byte_code.python != target.python:
        pinned = shared_pins(target).tools
    # What makes layers is the same for every Python.
    pythons = (replace(target, python=python) for python in NEWEST_FIRST)
    common = pinned or next((pins.tools for pins in map(shared_pins, pythons) if pins.tools), None)
    newest = Target(target.system, TOOLS_RELEASE, RELEASES[TOOLS_RELEASE].python)
    # In one solve: each reads the whole index.
    groups = {"python": [*_python_root(newest), *beside], "base": [_BASH, _BUSYBOX]}
    old = (*common.layers.debs, common.bash, common.busybox) if common else ()
    debs = locked_debs(solver.debs(newest, groups, _TOOLS, old))
    programs = {deb.name: deb for deb in debs}
    busybox = programs[_BUSYBOX]
    layers = PythonRoot(
        release=newest.release,
        python=newest.python,
        debs=apart(deb for deb in debs if deb.group == "python"),
    )
    if target == newest:
        byte_code = layers
    else:
        pins = pinned.byte_code.debs if pinned else ()
        own = locked_debs(solver.debs(target, {"python": _python_root(target)}, _TOOLS, pins))
        byte_code = PythonRoot(release=target.release, python=target.python, debs=own)
    known = {common.busybox.sha256: common.busybox.tree_sha256} if common else {}
    return Tools(
        busybox=Busybox(**dict(busybox), tree_sha256=known.get(busybox.sha256)),
        bash=programs[_BASH],
        layers=layers,
        byte_code=byte_code,
    )


def _python_root(target: Target) -> list[str]:
    # Enough to run a program of the standard library's; nothing of the base system.
    return [f"python{target.python}-minimal", f"libpython{target.python}-stdlib"]


class SharedPins(Document):
    """Pins that came with tungsten for what all models of one Python version and platform share."""

    server: ServerEnvironment | None = None
    tools: Tools | None = None


def shared_pins(target: Target) -> SharedPins:
    """The pins in `shared_pins.json`; empty for a version or a platform that it does not hold."""
    text = resources.files(__package__).joinpath("shared_pins.json").read_text(encoding="utf-8")
    found = json.loads(text).get(target.python, {}).get(target.system, {})
    return SharedPins.model_validate_json(json.dumps(found))
