"""Requested Debian packages to an exact set of them, with the choices that were made on the way.

What may be installed together is libsolv's to say; what is preferred where there is a choice, `walk`'s. The walk's
packages are the answer if libsolv finds nothing wrong with them; otherwise it searches, favouring them. Both see what
the requests can reach by dependencies (`archive`), and nothing else of an archive. Recommends are not followed, and
Essential packages are not implied: no dpkg and no maintainer script ever runs in an image.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import solv

from tungstenkit.debian.archive import NOTHING, REQUEST, Archive, Catalogue, Pin, Present, Wanted
from tungstenkit.debian.former_names import successor
from tungstenkit.debian.solution import as_text, describe
from tungstenkit.debian.walk import Walk
from tungstenkit.sdk.errors import ResolveError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tungstenkit.debian.archive import Request
    from tungstenkit.debian.control import Alternatives
    from tungstenkit.debian.index import ReleaseIndex
    from tungstenkit.debian.packages import Package
    from tungstenkit.debian.solution import DebSolution

_DEBCONF = "debconf only asks questions while a package is installed, and no maintainer script runs here"

NOT_FOLLOWED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "base-files": {"awk": "only its maintainer script runs awk"},
        "ca-certificates": {
            "openssl": "only update-ca-certificates runs openssl; the bundle is made without it",
            "debconf": _DEBCONF,
        },
        "dash": {
            "debianutils": "only its maintainer script runs add-shell",
            "dpkg": "only its maintainer script runs dpkg-divert",
        },
        "readline-common": {"dpkg": "only its maintainer script runs dpkg or install-info"},
        "tzdata": {"debconf": _DEBCONF},
    }
)
"""Dependencies that images don't need, by package and by the dependency's first name, with the reasons."""

_LISTED = 12  # lines of an explanation, names of a list: more is not read


class DebSolver:
    """Solves with the packages of one index, which is opened once; not for several threads."""

    def __init__(
        self, index: ReleaseIndex, not_followed: Mapping[str, Mapping[str, str]] = NOT_FOLLOWED
    ) -> None:
        """Open the index.

        not_followed: dependencies to leave out, as `NOT_FOLLOWED`.

        Raises UnusableError where a file of it can't be read.
        """
        self._catalogue = Catalogue(index)
        self._not_followed = not_followed

    def newest(self, name: str) -> Package | None:
        """What the index lists as the newest of a package's name."""
        return next(iter(self._catalogue.versions(name)), None)

    def solve(
        self,
        groups: Mapping[str, Sequence[str]],
        pins: Mapping[str, Pin] = MappingProxyType({}),
        *,
        where: str = "system_packages",
        present: Present = NOTHING,
    ) -> DebSolution:
        """Choose packages that satisfy every request.

        groups: requests by group, in the groups' order: `NAME`, `NAME=VERSION`, `NAME:ARCHITECTURE`; a virtual
            name too, if one package provides it or one that does is needed anyway; and a name that the release
            has given up, if `former_names` knows what took its place.
        pins: what an earlier lock has, by name; each is kept while it can be had and fits.
        where: whose requests these are, for messages.
        present: what there is already. The solution is what comes beside it or in its place; as with apt, what is asked
            for by name comes in its newest version, and every dependency is followed, since dpkg will look at them.

        Of a package's versions, the highest in all suites is the only candidate beside a pinned one.

        Raises ResolveError for unknown or malformed requests, all at once, and for those that can't be met
        together.
        """
        names = {match["name"] for match in _matches(groups)}
        names |= {new for name in names if (new := successor(name, self._catalogue))}
        wanted = Wanted(frozenset(names), _exact(groups), pins, present)
        archive = Archive(self._catalogue, {} if present.packages else self._not_followed, wanted)
        requests, problems = archive.read_requests(groups)
        if problems:
            raise ResolveError("\n".join(problems), where=where, hint=_search_hint(archive.index))
        walk = Walk(archive)
        walk.run(requests)
        if unmet := [r for r in requests if r.virtual and not any(p in walk.why for p in r.options)]:
            raise ResolveError(
                "\n".join(_ask_for_provider(archive, r) for r in unmet), where=where, hint="name one of them"
            )
        solution = _solve(archive, requests, walk.why, where)
        return describe(archive, requests, solution, walk)


def _solve(archive: Archive, requests: Sequence[Request], walked: Iterable[int], where: str) -> set[int]:
    pool = archive.pool
    wanted = [
        pool.Job(
            solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_SOLVABLE_ONE_OF, pool.towhatprovides(list(r.options))
        )
        for r in requests
    ]
    walked = list(walked)
    problems: list[solv.Problem] = []
    # First as the walk went; where that leads nowhere, as near to it as possible.
    for command in (solv.Job.SOLVER_INSTALL, solv.Job.SOLVER_FAVOR):
        solver = pool.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        problems = solver.solve(wanted + [pool.Job(command | solv.Job.SOLVER_SOLVABLE, n) for n in walked])
        if not problems:
            done = solver.transaction()
            return {s.id for s in (*done.newsolvables(), *done.keptsolvables())}
    lines = [line for problem in problems for line in _explain(archive, problem)]
    raise ResolveError(
        "no set of Debian packages satisfies all requests:\n"
        + "\n".join(f"- {line}" for line in dict.fromkeys(lines)),
        where=where,
        hint="take away one of the requests that lead to the packages named here, or its version"
        + ("; packages of the base image are replaced by newer ones alone" if archive.kept else ""),
    )


def _explain(archive: Archive, problem: solv.Problem) -> Iterator[str]:
    """libsolv's proof that there is no solution, a sentence for each step."""
    shown = 0
    for rule in problem.findallproblemrules():
        for info in rule.allinfos():
            if shown < _LISTED and (line := _sentence(archive, info)):
                shown += 1
                yield line


def _sentence(archive: Archive, info: solv.Ruleinfo) -> str | None:
    here = archive.label(info.solvable.id) if info.solvable else ""
    other = archive.label(info.othersolvable.id) if info.othersolvable else ""
    if info.type == solv.Solver.SOLVER_RULE_PKG_REQUIRES:
        return f"{here} depends on {_written(archive, archive.depends(info.solvable.id), info.dep_id)}"
    if info.type == solv.Solver.SOLVER_RULE_PKG_NOTHING_PROVIDES_DEP:
        return (
            f"{here} depends on {_written(archive, archive.depends(info.solvable.id), info.dep_id)}, "
            "which is not to be had"
        )
    if info.type == solv.Solver.SOLVER_RULE_PKG_CONFLICTS:
        stated = _written(archive, archive.package(info.solvable.id).conflicts, info.dep_id)
        return f"{here} can't be beside {other} (it conflicts with {stated})"
    if info.type == solv.Solver.SOLVER_RULE_PKG_SAME_NAME:
        return f"{here} and {other} can't both be installed"
    return None  # jobs: the request is what the user knows


def _written(archive: Archive, elements: Iterable[Alternatives], dependency: int) -> str:
    """A dependency as its package states it: libsolv knows only the ranks of versions."""
    return next(
        (as_text(e) for e in elements if archive.dependency(e) == dependency),
        "another package",
    )


def _ask_for_provider(archive: Archive, request: Request) -> str:
    names = list(dict.fromkeys(map(archive.name, request.options)))
    shown = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"{request.text!r} is a virtual package, which several provide: {shown}"


def _matches(groups: Mapping[str, Sequence[str]]) -> Iterator[re.Match[str]]:
    for texts in groups.values():
        yield from filter(None, map(REQUEST.fullmatch, texts))


def _exact(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {match["name"]: match["version"] for match in _matches(groups) if match["version"]}


def _search_hint(index: ReleaseIndex) -> str:
    return f"the names are those of Debian {index.release}, as `apt-cache search` prints them there"
