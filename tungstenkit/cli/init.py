"""`tungsten init`: a model to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from tungstenkit.project.template import DEFAULT, Begun, about, begin, quoted, templates

if TYPE_CHECKING:
    from collections.abc import Iterator


def _known(name: str | None) -> str | None:
    known = templates()
    if name is not None and name not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return name


def init_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model's folder, made if need be.", show_default=".")
    ] = Path(),
    *,
    template: Annotated[
        str | None,
        typer.Option(
            "-t",
            "--template",
            metavar="NAME",
            callback=_known,
            help=f"What it is about: {', '.join(templates())}.",
            show_default=f"asked in a terminal, else {DEFAULT}",
        ),
    ] = None,
) -> None:
    """Write a model to start from; nothing is overwritten."""
    if template is None:
        template = _asked() if sys.stdin.isatty() and sys.stderr.isatty() else DEFAULT
    begun = begin(template, directory)
    for path in begun.files:
        print(path)
    sys.stdout.flush()
    print(*_going_on(begun, directory), sep="\n", file=sys.stderr)


def _going_on(begun: Begun, directory: Path) -> Iterator[str]:
    """What to do next, the shortest way."""
    if begun.code:
        yield (
            f"{', '.join(begun.code)} will be in the image, too: import it in tungsten_model.py, load what it needs in "
            "`setup`, and call it in `predict`"
        )
    if begun.code and begun.requirements == "requirements.txt":
        yield 'for its packages write python_packages=["-r requirements.txt"]'
    elif begun.code and begun.requirements:
        yield f'for the versions of its packages add "-c {begun.requirements}" to python_packages, beside their names'
    place = "" if directory == Path() else f" {quoted(directory)}"
    yield "edit tungsten_model.py, or try it as it is:"
    yield f"  tungsten build{place}"
    yield f"  tungsten demo{place}"


def _asked() -> str:
    """What a person chooses, by its name or its number."""
    names = templates()
    wide = max(map(len, names))
    for number, name in enumerate(names, start=1):
        print(f"{number:2}  {name:{wide}}  {about(name)}", file=sys.stderr)

    def chosen(answer: str) -> str:
        answer = answer.strip()
        if answer.isdecimal() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        if answer not in names:
            raise typer.BadParameter(f"{answer!r} is none of these")
        return answer

    try:
        return str(typer.prompt("What is the model about?", default=DEFAULT, value_proc=chosen, err=True))
    except typer.Abort:
        # Ctrl-C or Ctrl-D, in the line of the question.
        print(file=sys.stderr)
        raise KeyboardInterrupt from None
