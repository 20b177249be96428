"""Errors have one shape."""

import pickle

import pytest

from tungstenkit.sdk.errors import BuildError, DefinitionError, NothingFitsError, ResolveError, TungstenError


def test_three_lines():
    error = TungstenError("no such package: foo", where="system_packages[1]", hint="did you mean fooo?")
    assert str(error) == (
        "error: no such package: foo\n  in:   system_packages[1]\n  hint: did you mean fooo?"
    )


def test_a_missing_part_leaves_its_line_out():
    assert str(TungstenError("it broke", hint="mend it")) == "error: it broke\n  hint: mend it"
    assert str(BuildError("it broke")) == "error: it broke"


def test_further_lines_stand_below_the_first():
    assert str(TungstenError("a\nb", where="c\nd")) == "error: a\n       b\n  in:   c\n        d"


def test_all_problems_of_a_declaration():
    error = DefinitionError(iter(["x is wrong", "y is wrong"]), where="m.Model")
    assert error.problems == ("x is wrong", "y is wrong")
    assert str(error) == "error: 2 problems:\n       - x is wrong\n       - y is wrong\n  in:   m.Model"


def test_a_single_problem_needs_no_list():
    assert str(DefinitionError(["x is wrong"])) == "error: x is wrong"


@pytest.mark.parametrize(
    "error", [TungstenError("a", where="b", hint="c"), DefinitionError(["a", "b"], where="c")]
)
def test_errors_pass_from_process_to_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", [TungstenError, ResolveError, NothingFitsError, DefinitionError])
def test_a_problem_in_other_words_is_of_the_same_kind_and_the_first_one_stays_as_it_was(kind):
    more = {"explanation": "because"} if kind is NothingFitsError else {}
    first = kind(["a"] if kind is DefinitionError else "a", where="here", hint="try", **more)
    other = first.at("x86_64-linux").with_hint("or not", None)
    assert type(other) is kind
    assert str(other) == "error: on x86_64-linux: a\n  in:   here\n  hint: try; or not"
    assert vars(other) == {**vars(first), "what": "on x86_64-linux: a", "hint": "try; or not"}
    assert (first.what, first.hint, other.args) == ("a", "try", ("on x86_64-linux: a",))


def test_a_hint_may_be_the_first_one():
    assert TungstenError("a").with_hint(None).hint is None
    assert TungstenError("a").with_hint("b").hint == "b"
    assert TungstenError("a", hint="write:\n[x]\ny = 1").with_hint("or z").hint == "write:\n[x]\ny = 1\nor z"
