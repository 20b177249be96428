"""Runs what is the user's own code twice before its result is recorded, and compares.

A step's result is a tar whose hash nobody knows yet. The second run has another clock, order of sets, number of CPUs
and kind of CPU (`nix/tools/lib/variation.py`); what differs is named, file by file. A step here is one of an export's
`lib.steps`; whose it is, and what it sees, is not this module's business.
"""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tungstenkit import certificates, store
from tungstenkit.data import NIX
from tungstenkit.nix_build.log import OtherHashError
from tungstenkit.nix_build.process import run_build
from tungstenkit.sdk.errors import BuildError, LockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tungstenkit.nix_build.log import View

_SHOWN_FILES = 20
_LINKS = {False: "made", True: "made-again"}


@dataclass(frozen=True)
class ExportedStep:
    """A step of an export."""

    export: Path
    """Its folder, made for this."""
    system: str
    """The platform that it is for, which is this machine's."""
    name: str
    """In the export's `lib.steps`."""
    state: Path
    """The model's `.tungsten` folder."""
    view: View


def make(
    step: ExportedStep,
    file: str,
    *,
    again: bool = False,
    fake_time: Path | None = None,
    sha256: str | None = None,
    secrets: str = "",
) -> Path:
    """Run a step; its result, in the store, held there until the next run.

    file: the store name of the result. again: with everything changed. fake_time: libfaketime's library. sha256: of the
    result, where it is known. secrets: where the step asks for the values of its variables.

    Raises BuildError with the end of its log; MismatchError where it makes something else than `sha256`.
    """
    given = {
        "export": str(step.export.resolve()),
        "system": step.system,
        "step": step.name,
        "again": "again" if again else "",
        "fakeTime": str(fake_time or ""),
        "sha256": sha256 or "",
        "secrets": secrets,
        "certificates": certificates.bundle(),
    }
    arguments = ["--file", str(NIX / "flake" / "seal-step.nix")]
    arguments += [part for name, value in given.items() for part in ("--argstr", name, value)]
    link = step.state / _LINKS[again]
    try:
        run_build([*arguments, "--out-link", str(link.absolute())], step.view, step.state)
    except OtherHashError as problem:
        if problem.file != file:
            raise
        made = problem.sha256
        path = store.file_path(made, file)
        if sha256 is not None:
            raise MismatchError(sha256, made) from None
        if store.missing([path]):
            # Nix has kept it up to now, though it is not what was asked for; where it does not, it is made once more.
            return make(step, file, again=again, fake_time=fake_time, sha256=made, secrets=secrets)
        store.hold(path, link)
        return Path(path)
    return link.resolve()


def discard(step: ExportedStep) -> None:
    """Remove what was there for a step's runs alone; its result is held no more by them."""
    shutil.rmtree(step.export)
    for name in _LINKS.values():
        (step.state / name).unlink(missing_ok=True)


class MismatchError(BuildError):
    """A step made something else than its hash says."""

    def __init__(self, expected: str, made: str) -> None:
        """expected, made: sha256 in hexadecimal."""
        super().__init__(f"it made sha256 {made}, and the lock says {expected}")
        self.made = made


def settled(run: Callable[[bool], Path], recorded: Path | None, what: str) -> Path:
    """What a step makes, whatever the conditions: the path of a tar.

    run: runs it, the second time with everything changed. recorded: what was settled before, which needs no second run
    where it comes out again. what: the step's name, for messages.

    Raises LockError that names the files in which the two runs differ.
    """
    from tungstenkit.seal.differences import differences

    first = run(False)
    if first == recorded:
        return first
    second = run(True)
    if first == second or filecmp.cmp(first, second, shallow=False):
        return first
    found = differences(first, second) or ["the same files, in another order"]
    shown = found[:_SHOWN_FILES]
    if more := len(found) - len(shown):
        shown.append(f"and {more} more")
    raise LockError(
        "\n".join(["two runs did not make the same:", *shown]),
        where=what,
        hint="the second run had another clock, order of sets, and CPU, and nothing that is made may depend on them",
    )
