"""`tungsten`, the command line: reads arguments, calls the pipeline's steps in order, and prints what they made.

What a command makes goes to standard output; notices, progress and errors go to standard error. Exit status: 0
done, 1 an error, 2 wrong usage, 3 a file that the lock names is on no mirror any more, 4 a model that `check` could
not try for want of a GPU, 5 an image that `verify` builds again, but by no tungsten that it knows, 130 interrupted;
`serve` and `demo` pass on the server's own.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from tungstenkit.data import OWN_WHEELS
from tungstenkit.sdk.errors import GoneError, RunError, TungstenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tungstenkit.spec.reading import Reader


@contextmanager
def _interruption_told() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        raise


class _Commands(typer.core.TyperGroup):
    """The commands; typer ends one that is interrupted with 130, and would say nothing."""

    def make_context(self, *arguments: Any, **others: Any) -> Any:  # noqa: ANN401 (click's own)
        with _interruption_told():
            return super().make_context(*arguments, **others)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        with _interruption_told():
            try:
                return super().invoke(ctx)
            except TungstenError as problem:
                from tungstenkit.cli.arguments import about_the_same

                raise about_the_same(problem, ctx) from problem.__cause__


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tungsten {OWN_WHEELS['sdk']['version']}")
        raise typer.Exit


def _print_help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        print(context.get_help())
        raise typer.Exit


def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    help_: Annotated[
        bool,
        typer.Option("-h", "--help", help="Show this message and exit.", callback=_print_help, is_eager=True),
    ] = False,
) -> None:
    """Ship an ML model: from a decorated Python class to a reproducible container image."""


def _signals_interrupt() -> None:
    """A SIGTERM, and the end of the terminal, do what Ctrl-C does: nothing of ours is left behind."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is ignored already, as by `nohup`, stays so.
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler)


_INTERRUPTED = 130
"""The exit status."""
_MOMENT = 1.0
"""Seconds."""
INTERRUPTED = "interrupted; nothing is half-written"


def _beginning(app: typer.Typer) -> None:
    from tungstenkit.cli.init import init_command

    app.command("init")(init_command)


def _locking(app: typer.Typer) -> None:
    from tungstenkit.cli.arguments import AboutModel
    from tungstenkit.cli.lock import lock_command, why_command

    app.command("lock", cls=AboutModel)(lock_command)
    app.command("why")(why_command)


def _exporting(app: typer.Typer) -> None:
    from tungstenkit.cli.export import fetch_command, nix_export_command

    app.command("fetch")(fetch_command)
    app.command("nix-export")(nix_export_command)


def _building(app: typer.Typer) -> None:
    from tungstenkit.cli.arguments import AboutModel
    from tungstenkit.cli.build import BeforeAnother, build_command, push_command, shell_command

    app.command("build", cls=AboutModel)(build_command)
    app.command("shell", cls=BeforeAnother, epilog="After `--`, a command to run in place of your shell.")(
        shell_command
    )
    app.command("push")(push_command)


def _telling(app: typer.Typer) -> None:
    from tungstenkit.cli.arguments import AboutModel
    from tungstenkit.cli.sbom import sbom_command

    app.command("sbom", cls=AboutModel)(sbom_command)


def _running(app: typer.Typer) -> None:
    from tungstenkit.cli.run import predict_command, serve_command

    app.command(
        "serve", help="Run a model's server until Ctrl-C. Its address is printed once the model is ready."
    )(serve_command)
    app.command("demo", help="Do what `serve` does, and print the address of the demo page.")(serve_command)
    app.command("predict")(predict_command)


def _checking(app: typer.Typer) -> None:
    from tungstenkit.cli.check import check_command

    app.command("check")(check_command)


def _proving(app: typer.Typer) -> None:
    from tungstenkit.cli.verify import diff_command, verify_command

    app.command("verify")(verify_command)
    app.command("diff")(diff_command)


def _cleaning(app: typer.Typer) -> None:
    from tungstenkit.cli.clean import clean_command

    app.command("clean")(clean_command)


def _examining(app: typer.Typer) -> None:
    from tungstenkit.cli.doctor import doctor_command

    app.command("doctor")(doctor_command)


def _keeping(app: typer.Typer) -> None:
    from tungstenkit.cli.models import models
    from tungstenkit.cli.pull import pull_command
    from tungstenkit.cli.registry import login_command, logout_command, tag_command

    app.add_typer(models, name="models")
    app.command("pull")(pull_command)
    app.command("tag")(tag_command)
    app.command("login")(login_command)
    app.command("logout")(logout_command)


def _completing(app: typer.Typer) -> None:
    from tungstenkit.cli.completion import completion_command

    app.command("completion")(completion_command)


_GROUPS = {
    _beginning: ("init",),
    _locking: ("lock", "why"),
    _exporting: ("fetch", "nix-export"),
    _building: ("build", "shell", "push"),
    _telling: ("sbom",),
    _running: ("serve", "demo", "predict"),
    _checking: ("check",),
    _proving: ("verify", "diff"),
    _keeping: ("models", "pull", "tag", "login", "logout"),
    _cleaning: ("clean",),
    _examining: ("doctor",),
    _completing: ("completion",),
}
"""What adds which commands, in the order of the help."""


def command_line(first: str = "") -> typer.Typer:
    """The command line. first: its first word; where that is a command, no others are made but its group's."""
    app = typer.Typer(
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Panels and markup cost half of the time of a help, and of a wrong option.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # typer's own --help has pydantic imported to find out that it was not given.
    app.callback(add_help_option=False)(options)
    # What completes a line knows all of them.
    wanted = [add for add, names in _GROUPS.items() if first in names and add is not _completing]
    for add in wanted or _GROUPS:
        add(app)
    return app


def main(reader: Reader | None = None) -> None:
    """Run a command; every error that the user can mend has the one shape.

    reader: what waits to read a model's module, where the line looks like one that has it read.
    """
    _signals_interrupt()
    try:
        try:
            command_line(*sys.argv[1:2])(obj=reader)
        finally:
            # What can't be written when Python ends can't be told any more.
            sys.stdout.flush()
    except KeyboardInterrupt:
        _fail(INTERRUPTED, _INTERRUPTED)
    except SystemExit as end:
        _leave_threads(end)
        raise
    except GoneError as problem:
        _fail(problem, 3)
    except TungstenError as problem:
        _fail(problem, 1)
    except BrokenPipeError:
        # Whoever reads what we print has enough, as `head` has.
        _fail(None, 1)
    except (OSError, RuntimeError) as problem:
        error = _machines_error(problem)
        if error is None:
            raise
        _fail(error, 1)


def _fail(what: object, status: int) -> NoReturn:
    if what is not None:
        print(what, file=sys.stderr)
    # What could not be written would be tried again.
    with suppress(OSError):
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    end = SystemExit(status)
    _leave_threads(end)
    raise end


def _leave_threads(end: SystemExit) -> None:
    """End what was interrupted without what waits for a server, for which Python would wait; what else there is has a
    moment to leave nothing behind.
    """
    if end.code != _INTERRUPTED:
        return
    from tungstenkit.at_once import left

    until = time.monotonic() + _MOMENT
    with suppress(OSError, KeyboardInterrupt):
        for one in left():
            one.join(max(0, until - time.monotonic()))
    if left():
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_INTERRUPTED)


_MACHINES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full: there is a quota",
    errno.EROFS: "a file can't be written: its file system is read-only",
    errno.EIO: "a disk fails",
    errno.ENOMEM: "there is no memory left",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


def _machines_error(problem: OSError | RuntimeError) -> RunError | None:
    """What is wrong with the machine, wherever it has come up; None for what may be a defect of ours."""
    from tungstenkit.nix_program import MAKE_ROOM

    if not isinstance(problem, OSError):
        if "home directory" not in str(problem):  # as pathlib says it
            return None
        return RunError(
            "this user has no home: HOME is not set, nor is there an account",
            where="HOME",
            hint="set it to a folder that lasts; for once: `export HOME=$(mktemp -d)`",
        )
    where = str(problem.filename) if problem.filename is not None else None
    if what := _MACHINES.get(problem.errno or 0):
        hint = {
            errno.EMFILE: "allow more: `ulimit -n 4096`",
            errno.ENOSPC: f"{MAKE_ROOM}, or set TMPDIR to a folder on another disk",
        }.get(problem.errno or 0)
        return RunError(what, where=where, hint=hint)
    if isinstance(problem, FileNotFoundError) and "No usable temporary directory" in str(problem):
        return RunError(
            "temporary files can't be written anywhere",
            where=str(problem).rpartition("found in ")[2].strip("[]").replace("'", ""),
            hint="make room in one of these folders, or set TMPDIR to another",
        )
    return None


if __name__ == "__main__":
    main()
