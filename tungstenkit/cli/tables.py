"""How a person reads what two locks differ in, why a package is there, and what trying a model showed: lines and
tables, for `tungsten` to print.

Texts from outside stand in them escaped, so that no version or requirement is taken for rich's markup.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from tungstenkit.audit.diff import MADE_BY
from tungstenkit.trial.check import latencies, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from tungstenkit.audit.diff import Change, Difference
    from tungstenkit.audit.why import Reason
    from tungstenkit.trial.check import Report, Trial

_SHOWN = 8  # lines of a summary, chains of a package, names in a line

_PLACES = {
    "image": "image",
    "server": "the server's environment",
    "sources": "builds: makes wheels of sources",
    "layers": "builds: makes layers",
    "byte-code": "builds: compiles byte-code",
}


def summary(difference: Difference) -> Iterator[str]:
    """A few lines: what moved, what is known of vulnerabilities."""
    moved = [change for change in difference.changes if change.before and change.after]
    added = sum(change.before is None for change in difference.changes)
    removed = sum(change.after is None for change in difference.changes)
    if difference.size_before is None:
        yield f"a first lock: {decimal(difference.size_after)} to download for images"
    elif not difference.changes and all(fact.subject == MADE_BY for fact in difference.facts):
        yield "nothing moved"
    else:
        size = _signed(difference.size_after - difference.size_before)
        yield f"{len(moved)} moved, {added} added, {removed} removed; {size}"
        # Why a pin could not stay is told of each.
        told = [change for change in moved if change.reason]
        told += [change for change in moved if not change.reason][: max(0, _SHOWN - len(told))]
        for change in told:
            why = f": {change.reason}" if change.reason else ""
            yield f"  {escape(change.name)} {escape(_arrow(change.before, change.after) + why)}"
        if len(moved) > len(told):
            yield f"  … and {len(moved) - len(told)} more; `tungsten lock --against HEAD` compares with a commit"
    for fact in difference.facts:
        if fact.after is None and fact.subject.endswith(": Python"):
            system = fact.subject.removesuffix(": Python")
            yield f"[yellow]{system} is no longer locked[/]: name each platform with --platform"
        if fact.subject == MADE_BY and difference.size_before is not None:
            yield f"{MADE_BY}: {escape(_arrow(fact.before, fact.after))}"
    yield from vulnerability_lines(difference)
    # Of a first lock only what all models share can be behind.
    if difference.size_before is not None:
        yield from behind_lines(difference)


def behind_lines(difference: Difference) -> Iterator[str]:
    """How many pins stay that something newer could replace, and what moves them; and which stay by the lock's word."""
    for own, whose, way in (
        (True, "", "`tungsten lock --upgrade` takes what is newer, `-P NAME` of one"),
        (False, " of the server and of builds", "they move with tungsten, since all models share them"),
    ):
        found = {
            f"{one.name} {one.version} ({one.newest})": None
            for one in difference.behind
            if (one.place in ("image", "sources")) is own
        }
        if found:
            pins, stay = ("pin", "stays") if len(found) == 1 else ("pins", "stay")
            yield f"{len(found)} {pins}{whose} {stay} behind what is newer: {_few(found)}; {way}"
    if found := dict.fromkeys(difference.unlisted):
        pins = "pin stays by its file's hash" if len(found) == 1 else "pins stay by their files' hashes"
        yield f"{len(found)} {pins}, in no index any more: {_few(found)}"


def vulnerability_lines(difference: Difference) -> Iterator[str]:
    """What was closed, what is open and how much of it a newer version closes, and what was not asked."""
    first = difference.size_before is None
    if not first and (closed := sorted({v.id for c in difference.changes for v in c.closed})):
        yield f"[green]closes {_count(closed)}[/]: {_few(closed)}"
    if not first and (opened := sorted({v.id for c in difference.changes for v in c.opened})):
        yield f"[yellow]brings {_count(opened)}[/]: {_few(opened)}"
    if difference.known:
        every = {v.id for package in difference.known for v in package.vulnerabilities}
        names = {package.name for package in difference.known}
        yield f"[yellow]{_count(every)}[/] in {_few(sorted(names))}"
        fixable = {
            package.name
            for package in difference.known
            if package.place == "image" and any(v.fixed for v in package.vulnerabilities)
        }
        if fixable:
            yield f"  newer versions fix some, of {_few(sorted(fixable))}: `tungsten lock --security` takes these"
    yield from map(escape, difference.notices)


def comparison(difference: Difference) -> Iterator[str | Table]:
    """Everything that differs: what was asked for, what holds for the whole, each package."""
    for line in difference.inputs:
        yield escape(line)
    for fact in difference.facts:
        yield f"{escape(fact.subject)}: {escape(_arrow(fact.before, fact.after))}"
    if difference.changes:
        yield _table(difference.changes)
    before, after = difference.size_before or 0, difference.size_after
    yield f"{decimal(after)} to download for images ({_signed(after - before)})"
    yield from vulnerability_lines(difference)


def _table(changes: Sequence[Change]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    has_reasons = any(change.reason for change in changes)
    why = ("why",) if has_reasons else ()
    for heading in ("package", "from", "to", "size", "vulnerabilities", "where", *why):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for change in changes:
        ids = [f"[green]-{escape(v.id)}[/]" for v in change.closed]
        ids += [f"[red]+{escape(v.id)}[/]" for v in change.opened]
        table.add_row(
            escape(change.name),
            escape(change.before or "-"),
            escape(change.after or "-"),
            _signed(change.size_after - change.size_before),
            " ".join(ids),
            f"{escape(change.system)}, {_PLACES[change.place]}",
            *((escape(change.reason or ""),) if has_reasons else ()),
        )
    return table


def reason_lines(reason: Reason) -> Iterator[str]:
    """Why one package is in a lock, and what it is known to have."""
    kinds = {"deb": f"Debian package, {reason.release}", "wheel": "Python wheel", "file": "declared in files"}
    kind = kinds[reason.kind]
    yield (
        f"[bold]{escape(reason.name)}[/] {escape(reason.version)} "
        f"({kind}, {decimal(reason.size)}; {escape(reason.system)}, {_PLACES[reason.place]})"
    )
    for chain in reason.chains[:_SHOWN]:
        # `python_packages: torch` need not be followed by `torch`.
        shown = chain[:1] + chain[2:] if chain[0].endswith(f": {chain[1]}") else chain
        yield f"  {' -> '.join(map(escape, shown))}"
    if len(reason.chains) > _SHOWN:
        yield f"  … and {len(reason.chains) - _SHOWN} more"
    if not reason.chains:
        yield "  the lock does not say who asked for it: an older tungsten made it; run `tungsten lock`"
    for choice in reason.choices:
        yield f"  chosen: {escape(choice.subject)}: {escape(choice.chosen)} ({escape(choice.reason)})"
    if reason.vulnerabilities:
        for vulnerability in reason.vulnerabilities:
            fixed = f"fixed in {', '.join(vulnerability.fixed)}" if vulnerability.fixed else "no fix yet"
            yield f"  [yellow]{escape(vulnerability.id)}[/]: {escape(fixed)}"
    elif reason.vulnerabilities is not None:
        yield "  no known vulnerabilities"
    if reason.newer:
        yield f"  {escape(reason.newer.version)} is newer, seen on {reason.newer.checked:%Y-%m-%d}; the pin stays"


_KINDS = {
    "example": "the model's own examples",
    "valid": "valid inputs",
    "demo": "predict_demo",
    "invalid": "inputs that must be refused",
    "broken": "broken files",
    "batch": "batches",
}


def check_lines(report: Report) -> Iterator[str | Table]:
    """What trying a model showed: a table, then each failure with its input and the model's own words."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, side in (
        ("what", "left"),
        ("ok", "right"),
        ("failed", "right"),
        ("median", "right"),
        ("max", "right"),
    ):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for kind, words in _KINDS.items():
        of_kind = [trial for trial in report.trials if trial.kind == kind]
        if of_kind:
            failed = sum(not trial.ok for trial in of_kind)
            middle, longest = latencies(of_kind)
            table.add_row(
                words,
                str(len(of_kind) - failed),
                f"[red]{failed}[/]" if failed else "0",
                f"{middle * 1000:.1f} ms",
                f"{longest * 1000:.1f} ms",
            )
    yield table
    yield f"ready after {report.setup_seconds:.1f} s"
    if report.peak_memory is None:
        yield "memory: could not be measured"
    else:
        declared = f"mem_gb={report.mem_gb:g} is declared"
        over = " [red]too much[/]" if report.too_much_memory else ""
        yield f"memory at its peak: {decimal(report.peak_memory)}; {declared}{over}"
    for gap in report.gaps:
        yield f"[yellow]not tried:[/] {escape(gap)}"
    if report.nothing_sent:
        yield (
            "[red]failed:[/] no input could be made, so `predict` was not tried: give one by `examples=[…]` of "
            "define_model"
        )
    for alike in _alike([trial for trial in report.trials if trial.note]):
        yield f"[yellow]note:[/] {_named(alike)}: {escape(alike[0].note or '')}"
    failures = _alike([trial for trial in report.trials if not trial.ok])
    for alike in failures[:_SHOWN]:
        trial = alike[0]
        yield f"[red]failed:[/] {_named(alike)}: {escape(trial.problem or '')}"
        yield f"  input: {escape(_few_letters(json.dumps(shortened(trial.inputs), ensure_ascii=False)))}"
        if trial.log:
            yield "  " + escape(trial.log).replace("\n", "\n  ")
    if len(failures) > _SHOWN:
        yield f"and {len(failures) - _SHOWN} more kinds of failure: --json has all, -o DIR keeps their inputs"


def _alike(trials: list[Trial]) -> list[list[Trial]]:
    """Those for which the same is said, together."""
    groups: dict[tuple[str, str | None], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.kind, trial.problem or trial.note), []).append(trial)
    return list(groups.values())


def _named(alike: list[Trial]) -> str:
    more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
    return f"{_KINDS[alike[0].kind]}, {escape(alike[0].what)}{more}"


def _few_letters(text: str) -> str:
    return text if len(text) <= 500 else f"{text[:497]}..."


def _arrow(before: str | None, after: str | None) -> str:
    if before == after:
        return f"{before}, another file"
    return f"{before or 'nothing'} -> {after or 'nothing'}"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{decimal(abs(size))}"


def _count(identifiers: Collection[str]) -> str:
    return f"{len(identifiers)} known {'vulnerability' if len(identifiers) == 1 else 'vulnerabilities'}"


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return escape(", ".join(listed[:_SHOWN]) + more)
