"""Control data is read as Debian policy 5.1 and 7.1 write it."""

import pytest

from tungstenkit.debian.control import Relation, relations, stanzas


def test_a_relationship_field_is_a_list_of_alternatives():
    assert relations("libc6 (>= 2.36), python3:any, a | b (<< 1:2-3~)") == [
        (Relation("libc6", None, ">=", "2.36"),),
        (Relation("python3", "any"),),
        (Relation("a"), Relation("b", None, "<<", "1:2-3~")),
    ]


@pytest.mark.parametrize("field", ["a(>=1)", "a ( >= 1 ) ,", "a (>= 1)"])
def test_white_space_is_free(field):
    assert relations(field) == [(Relation("a", None, ">=", "1"),)]


def test_the_obsolete_operators_include_equality():
    assert [str(e[0]) for e in relations("a (< 1), b (> 1)")] == ["a (<= 1)", "b (>= 1)"]


@pytest.mark.parametrize("field", ["a (1)", "a (>= )", "a b", "a | ", "a (>= 1"])
def test_a_malformed_relation_is_refused(field):
    with pytest.raises(ValueError, match="not a relation"):
        relations(field)


def test_stanzas_keep_continued_lines_and_leave_comments_out():
    text = "A: 1\n# no\nB:\n x y\n z\n\n\nA: 2\n"
    assert list(stanzas(text)) == [{"A": "1", "B": "\nx y\nz"}, {"A": "2"}]
