import pytest
from tungsten_server.checks.body import MAX_DEPTH, parse_inputs, parse_json
from tungsten_server.words.problems import InputError


def kind(body, max_inputs=3):
    with pytest.raises(InputError) as raised:
        parse_inputs(body, max_inputs)
    (problem,) = raised.value.problems
    return problem.kind


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"", "json_invalid"), (b"{}", "list_type"), (b"[]", "too_short"), (b"[1,2,3,4]", "too_long")],
)
def test_a_body_is_a_list_of_at_least_one_input_and_not_too_many(body, expected):
    assert kind(body) == expected
    assert parse_inputs(b"[1,2,3]", 3) == [1, 2, 3]


def nested(depth, opening, closing):
    return opening * depth + b"0" + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_limited_whatever_python_s_own_limit_is(opening, closing):
    parse_json(nested(MAX_DEPTH, opening, closing))
    for depth in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(InputError, match="nested too deeply"):
            parse_json(nested(depth, opening, closing))


def test_breadth_is_no_depth():
    assert len(parse_json(b"[" + b"[{}]," * 10_000 + b"1]")) == 10_001


def test_brackets_in_texts_are_no_depth():
    assert parse_json(b'["' + b"[{" * 1000 + b'"]') == ["[{" * 1000]


def test_of_equal_names_the_last_one_counts():
    assert parse_json(b'{"a": 1, "a": 2}') == {"a": 2}


def test_huge_numbers_are_read():
    assert parse_json(b"1" * 400) == int("1" * 400)
