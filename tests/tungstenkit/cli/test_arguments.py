"""Hints that name the model which a command is about."""

from types import SimpleNamespace

import pytest

from tungstenkit.cli import arguments
from tungstenkit.sdk.errors import GoneError, LockError


def hint_of(hint, **params):
    about = SimpleNamespace(params=params)
    context = SimpleNamespace(meta={arguments.__name__: about})
    return arguments.about_the_same(LockError("no", hint=hint), context).hint


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("run `tungsten lock`; pins are kept", "run `tungsten lock DIR`; pins are kept"),
        (
            "`tungsten lock -P post_build` or `tungsten fetch`",
            "`tungsten lock -P post_build DIR` or `tungsten fetch DIR`",
        ),
        ("`tungsten lock --package-set debian`", "`tungsten lock --package-set debian DIR`"),
        ("`tungsten build --no-load` leaves it", "`tungsten build --no-load DIR` leaves it"),
        ("`tungsten fetch --to FOLDER` keeps", "`tungsten fetch --to FOLDER DIR` keeps"),
        # What names a model, or is no command to paste.
        ("`tungsten build OTHER` builds it", "`tungsten build OTHER` builds it"),
        ("made by `tungsten fetch --to`", "made by `tungsten fetch --to`"),
        ("`tungsten login REGISTRY`", "`tungsten login REGISTRY`"),
    ],
)
def test_its_commands_name_the_folder_that_was_given(tmp_path, hint, said):
    folder = tmp_path / "my model"
    folder.mkdir()
    assert hint_of(hint, directory=folder) == said.replace("DIR", f"'{folder}'")
    assert hint_of(hint, target=str(folder)) == said.replace("DIR", f"'{folder}'")
    assert hint_of(hint, directory=".") == hint


def test_its_commands_name_the_module_and_the_class():
    assert (
        hint_of("`tungsten lock`", directory=".", module="b", class_name="C") == "`tungsten lock -m b -c C`"
    )


def test_a_name_that_is_no_folder_is_none_to_lock():
    assert hint_of("run `tungsten lock`", target="blur:latest") == "run `tungsten lock`"


def test_the_problem_is_of_its_kind():
    """Its kind is the exit status."""
    context = SimpleNamespace(
        meta={arguments.__name__: SimpleNamespace(params={"directory": ".", "module": "b"})}
    )
    problem = GoneError("gone", where="here", hint="run `tungsten lock`")
    told = arguments.about_the_same(problem, context)
    assert (type(told), told.where, told.hint) == (GoneError, "here", "run `tungsten lock -m b`")
