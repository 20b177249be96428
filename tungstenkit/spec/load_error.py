"""What goes wrong while `load.py` imports a model's module, in the terms of the model's own code."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def described(error: BaseException, folder: Path, module: str) -> dict[str, Any]:
    """What went wrong, in the terms of the model's own code."""
    from tungstenkit.sdk.define import define_model
    from tungstenkit.sdk.errors import DefinitionError
    from tungstenkit.sdk.io import Field, Option

    where, text = module, str(error)
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).is_relative_to(folder):
            where = f"{Path(frame.filename).relative_to(folder)}, line {frame.lineno}"
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(folder):
        where = f"{Path(error.filename).relative_to(folder)}, line {error.lineno}"
        text = error.msg  # without the place
    if isinstance(error, DefinitionError):
        known = _field_places(error, folder)
        # As `Input.image: …`.
        places = [known.get(problem.partition(":")[0]) for problem in error.problems]
        problems = list(error.problems)
        where = f"{where} ({error.where})"
        if len(problems) == 1:
            where = places[0] or where
        else:
            problems = [
                f"{place}: {problem}" if place else problem
                for place, problem in zip(places, problems, strict=True)
            ]
        result = {"problems": problems, "where": where, "hint": error.hint}
    elif isinstance(error, SystemExit):
        result = {"what": f"the module exits when it is imported, with {error.code!r}", "where": where}
    else:
        message = " ".join(text.split())
        origin = traceback.extract_tb(error.__traceback__)[-1].filename
        result = {"what": f"{type(error).__name__}: {message[:500]}", "where": where, "origin": origin}
        for function in (define_model, Field, Option):
            unknown = f"{function.__name__}() got an unexpected keyword"
            if isinstance(error, TypeError) and message.startswith(unknown):
                arguments = inspect.signature(function).parameters.values()
                names = [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]
                others = "; for others, the type may be `Annotated[…, pydantic.Field(…)]`"
                result["hint"] = (
                    f"{_near(message, names)}its arguments are {', '.join(names)}"
                    f"{'' if function is define_model else others}"
                )
        if isinstance(error, ImportError) and error.name == "tungstenkit":
            import tungstenkit

            result["hint"] = f"{_near(message, tungstenkit.__all__)}it has {', '.join(tungstenkit.__all__)}"
    return result


def _near(message: str, names: Sequence[str]) -> str:
    """The name that was meant by the first one in quotes, to be told; empty where none is near."""
    unknown = message.partition("'")[2].partition("'")[0]
    near = difflib.get_close_matches(unknown, names, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _field_places(error: BaseException, folder: Path) -> dict[str, str]:
    """The lines of the folder's classes and of the fields that they declare or inherit, by `Class` and `Class.field`.

    By their source alone: a module whose import has failed is no more.
    """
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename for frame in frames]
    files += [file for one in list(sys.modules.values()) if (file := getattr(one, "__file__", None))]
    fields: dict[str, dict[str, str]] = {}
    bases: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for file in dict.fromkeys(map(Path, files)):
        if not file.is_relative_to(folder) or file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if not isinstance(node, ast.ClassDef):
                continue
            places[node.name] = f"{file.relative_to(folder)}, line {node.lineno}"
            bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    place = f"{file.relative_to(folder)}, line {field.lineno}"
                    fields.setdefault(node.name, {})[ast.unparse(field.target)] = place
    for name in bases:
        classes = [name]
        for one in classes:  # which grows
            classes += [base for base in bases.get(one, ()) if base not in classes]
        for one in reversed(classes):
            places.update({f"{name}.{field}": place for field, place in fields.get(one, {}).items()})
    return places
