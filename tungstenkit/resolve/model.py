"""From a spec to a resolved lock: Python, Debian packages and wheels chosen together, each choice with its
reason.

A Python version stands for a Debian release, so the release is chosen by the first Python whose whole solve
succeeds, on every platform. Only indexes and metadata are read here. Pins of the previous lock are kept where
they still fit; for what all models share (the tools, the server) the pins that came with tungsten come first, so
that models share those layers.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tungstenkit.debian.release import RELEASE_OF, RELEASES, TOOLS_RELEASE
from tungstenkit.lock.document import Lock
from tungstenkit.lock.stale import input_digest, made_from
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.resolve.rules import tool_programs
from tungstenkit.resolve.search import Search, resolve_python
from tungstenkit.resolve.shared import resolve_server, resolve_tools
from tungstenkit.resolve.targets import chosen_systems, target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tungstenkit.lock.parts import Tools
    from tungstenkit.platforms import Target
    from tungstenkit.resolve.base import Base
    from tungstenkit.resolve.solver import Solver
    from tungstenkit.spec.document import ModelSpec

_SET: Literal["debian"] = "debian"


def resolve(
    spec: ModelSpec,
    solver: Solver,
    previous: Lock | None,
    *,
    systems: Iterable[str] = (),
    python: str | None = None,
    bases: Mapping[str, Base] = MappingProxyType({}),
) -> Lock:
    """A resolved lock, not sealed yet.

    systems: the platforms to lock (default: those of the previous lock, else this machine's).
    python: a Python version that goes before the one that the spec asks for.
    bases: by platform the model's base image; empty where it names none.

    Raises ResolveError where nothing fits, FetchError where an index can't be had, UnusableError where it can't be
    believed.
    """
    systems = chosen_systems(systems, previous)
    search = Search(spec, solver, previous, systems, bases, python)
    first = next(iter(search.candidates()))
    _read_ahead(search, first)
    with ThreadPoolExecutor() as pool:
        # Meanwhile the server's, for the Python that most likely comes out.
        ahead = {
            target: pool.submit(resolve_server, target, solver, previous)
            for target in (search.target(system, first) for system in systems)
        }
        solved = resolve_python(search)
        for notice in solved.notices:
            solver.notice(notice)
        targets = {system: search.target(system, solved.python) for system in systems}
        solver.report("solving the server's environment")
        server = {
            system: ahead[target].result() if target in ahead else resolve_server(target, solver, previous)
            for system, target in targets.items()
        }
    tools = _tools(search, targets)
    # What has been read by now.
    used = {TOOLS_RELEASE, *(target.release for target in targets.values())}
    used |= {platform.added.release for platform in solved.platforms.values() if platform.added}
    return Lock(
        package_set=_SET,
        inputs=made_from(spec, _SET),
        input_digest=input_digest(spec, _SET),
        sealed=False,
        choices=tuple(solved.choices),
        # Not those of candidates that failed.
        releases={name: release for name, release in solver.releases.items() if name in used},
        platforms=dict(solved.platforms),
        server=server,
        tools=tools,
    )


def _read_ahead(search: Search, first: str) -> None:
    """Begin to read what the search will most likely need. first: the first Python that is tried."""
    newest = RELEASES[TOOLS_RELEASE].python
    # A base image brings its own system.
    pythons = dict.fromkeys((newest,) if search.bases else (first, newest))
    known = search.previous.platforms.values() if search.previous else ()
    search.solver.read_ahead(
        (target_of(system, python) for python in pythons for system in search.systems),
        dict.fromkeys(wheel.project for platform in known for wheel in platform.wheels),
    )


def _tools(search: Search, targets: Mapping[str, Target]) -> dict[str, Tools]:
    """The tools of builds for some targets, by the platform that builds."""
    # An image may be built by any platform that locked it, or that it is for.
    builders = {*targets, *(search.previous.tools if search.previous else ()), this_system()} & set(
        ARCHITECTURES
    )
    # Of a Python that Debian has not, nothing can be compiled; what makes layers is there all the same.
    is_debians = all(target.release == RELEASE_OF.get(target.python) for target in targets.values())
    python = next(iter(targets.values())).python if is_debians else RELEASES[TOOLS_RELEASE].python
    programs = tool_programs(base.image for base in search.bases.values())
    return {
        system: resolve_tools(target_of(system, python), search.solver, search.previous, programs)
        for system in sorted(builders)
    }
