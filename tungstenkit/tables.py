"""How a person reads what two locks differ in, and why a package is there: lines and tables, for `tungsten` to print.

Texts from outside stand in them escaped, so that no version or requirement is taken for rich's markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from tungstenkit.diff import Change, Difference
    from tungstenkit.why import Reason

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
    elif not difference.changes and not difference.facts:
        yield "nothing moved"
    else:
        size = _signed(difference.size_after - difference.size_before)
        yield f"{len(moved)} moved, {added} added, {removed} removed; {size}"
        for change in moved[:_SHOWN]:
            yield f"  {escape(change.name)} {escape(_arrow(change.before, change.after))}"
        if len(moved) > _SHOWN:
            yield f"  … and {len(moved) - _SHOWN} more; `tungsten lock --against HEAD` compares with a commit"
    for fact in difference.facts:
        if fact.after is None and fact.subject.endswith(": Python"):
            system = fact.subject.removesuffix(": Python")
            yield f"[yellow]{system} is no longer locked[/]: name each platform with --platform"
    yield from vulnerability_lines(difference)


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
            options = " ".join(f"-P {name}" for name in sorted(fixable))
            yield f"  newer versions fix some: tungsten lock {escape(options)}"
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
    for heading in ("package", "from", "to", "size", "vulnerabilities", "where"):
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
