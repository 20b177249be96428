"""Which Nix would build here, as whom, and whether its sandbox works."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tungstenkit import lacks, nix_program, started, store
from tungstenkit.doctor.finding import State, fine, lacking, lacking_by, unsure
from tungstenkit.nix_build import process
from tungstenkit.nix_build.log import Log
from tungstenkit.platforms import ARCHITECTURES, this_system
from tungstenkit.sdk.errors import TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tungstenkit.doctor.finding import Finding

_OLDEST = (2, 8)
_SECONDS = 20
_SMALLEST = (
    'derivation { name = "tungsten-doctor"; system = "builtin"; builder = "builtin:buildenv"; derivations = "";'
    ' manifest = "/"; }'
)
"""What Nix builds by itself, without a program or a file of anybody's, and in its sandbox all the same."""


def nix() -> Iterator[Finding]:
    """The processor, Nix, whose processes its builds are, its sandbox."""
    system = this_system()
    if system in ARCHITECTURES:
        yield fine(lacks.PLATFORM, system)
    else:
        yield lacking(
            lacks.PLATFORM,
            f"{system} is none of {', '.join(ARCHITECTURES)}",
            [lacks.Remedy(says="use another machine")],
        )
        return
    try:
        chosen = nix_program.current()
    except TungstenError as problem:
        yield lacking_by(lacks.NIX, problem)
        return
    if chosen.is_absent:
        why = "asked for" if shutil.which("nix-store") else "none is on PATH"
        release = nix_program.OWN_RELEASE
        yield fine(
            lacks.NIX,
            f"{why}: tungsten brings Debian {release}'s (22 MB) with the first command that needs it",
        )
        return
    said = _version()
    judged = _judged(said)
    if judged.state is State.OK and not chosen.variables and (why := _no_store()):
        remedies = [
            lacks.Remedy(
                f"export {nix_program.VARIABLE}=own", "and tungsten brings one with a store of this user's"
            ),
            lacks.Remedy("systemctl start nix-daemon", "where the system has that service", as_root=True),
        ]
        judged = lacking(lacks.NIX, f"{judged.found}, which this user can't use: {why}", remedies)
    yield judged
    if judged.forbids_building:
        return
    if (found := _builders()) is not None:
        yield found
        if found.forbids_building:
            return
    if not store.has_daemon():
        yield sandbox()


def _version() -> str:
    """What Nix says of its version; empty where it can't be started."""
    try:
        return _run(["nix", "--version"]).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _judged(said: str) -> Finding:
    number = re.search(r"(\d+)\.(\d+)", said)
    own = "tungsten's own, " if nix_program.current().is_own else ""
    program = nix_program.current().line(["nix"])[0]
    place = f"{own}{program if '/' in program else shutil.which(program) or program}, store {store.place()}"
    if number is None:
        remedy = lacks.Remedy(f"export {nix_program.VARIABLE}=own", "and tungsten brings one")
        return lacking(lacks.NIX, f"{place}: it can't be started", [remedy])
    if (int(number[1]), int(number[2])) < _OLDEST:
        remedy = lacks.Remedy(f"export {nix_program.VARIABLE}=own", "and tungsten brings a newer one")
        return lacking(lacks.NIX, f"{said} is older than 2.8; {place}", [remedy])
    return fine(lacks.NIX, f"{number[0]}{said.partition(number[0])[2]}, {place}")


def _no_store() -> str:
    """Why this machine's store can't be asked, as one of root's whose daemon does not run; empty where it can."""
    nothing = store.file_path("0" * 64, "tungsten-doctor")
    try:
        done = _run(["nix-store", *store.options(), "--check-validity", "--print-invalid", nothing])
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it says nothing"])[-1]


def _builders() -> Finding | None:
    """Whose processes builds are, where that may be wrong."""
    try:
        process.check_builders()
    except TungstenError as problem:
        remedy = lacks.Remedy(store.BUILD_USERS_COMMAND, as_root=True)
        return lacking(lacks.BUILD_USERS, problem.what, [remedy])
    if nix_program.current().variables:
        return None  # a store of the user's own, which may not be there yet: nobody else builds
    try:
        process.check_daemon()
    except TungstenError as problem:
        return lacking_by(lacks.SANDBOX, problem)
    except (OSError, subprocess.SubprocessError, KeyError, ValueError) as problem:
        return unsure(lacks.SANDBOX, f"Nix's daemon can't be asked: {problem}")
    who = store.builders()
    return fine(lacks.BUILD_USERS, who.value) if who is not store.Builders.OWN or store.has_daemon() else None


def sandbox() -> Finding:
    """Have the smallest derivation built, in a store of its own that is gone then."""
    try:
        with started.scratch() as folder:
            options = [*store.options(), "--store", str(folder)]
            command = ["nix", *options, "build", "--no-link", "--impure", "--expr", _SMALLEST]
            done = _run(command)
    except subprocess.TimeoutExpired:
        return unsure(lacks.SANDBOX, f"the smallest build has not ended in {_SECONDS} s")
    except OSError as problem:
        return unsure(lacks.SANDBOX, f"it could not be tried: {problem.strerror or problem}")
    if done.returncode == 0:
        return fine(lacks.SANDBOX, "the smallest derivation was built in it")
    log = Log(_Nobody())
    for line in done.stderr.splitlines():
        log.read(line)
    return lacking_by(lacks.SANDBOX, log.error(done.returncode))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """As `nix_program.run`, but that no store is made, and that it ends soon."""
    return subprocess.run(
        nix_program.current().line(command),
        env=nix_program.environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


class _Nobody:
    """A `View` of nobody."""

    def begin(self, step: str) -> None: ...

    def say(self, step: str, line: str) -> None: ...

    def shows(self, step: str) -> bool:  # noqa: ARG002 (a view's)
        return False

    def end(self, step: str) -> None: ...

    def note(self, text: str) -> None: ...
