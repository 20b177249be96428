import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tungsten_server.checks.inputs import InputSchema
from tungsten_server.words.problems import MAX_PROBLEMS, InputError

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
FILE_LIST = {"type": "array", "items": FILE}
MASKED = {
    "type": "object",
    "x-file-type": "masked_image",
    "properties": {"image": FILE, "mask": FILE},
    "required": ["image", "mask"],
}


MAX_FILE = 1000


def schema_of(required=(), **properties):
    return InputSchema({"type": "object", "properties": properties, "required": list(required)}, MAX_FILE)


def problems(schema, *values):
    """Location, kind of each problem."""
    with pytest.raises(InputError) as raised:
        schema.check(values)
    return [(problem.location, problem.kind) for problem in raised.value.problems]


def key(schema, value):
    return schema.check([value])[0].key


OPTIONS = schema_of(
    required=["x"],
    x={"type": "number"},
    scale={"type": "number", "default": 1.0, "x-option": True},
    flag={"default": True, "x-option": True},
    name={"type": "string", "x-option": True},
    note={"anyOf": [{"type": "string"}, {"type": "null"}]},
)


class TestOptionKey:
    def test_required_fields_do_not_count(self):
        assert key(OPTIONS, {"x": 1}) == key(OPTIONS, {"x": 2})

    def test_what_need_not_be_given_is_no_option_by_that(self):
        assert key(OPTIONS, {"x": 1}) == key(OPTIONS, {"x": 1, "note": "a"})

    def test_unknown_fields_do_not_count(self):
        assert key(OPTIONS, {"x": 1, "other": 5}) == key(OPTIONS, {"x": 1})

    def test_a_default_given_is_a_default_left_out(self):
        assert key(OPTIONS, {"x": 1, "scale": 1.0}) == key(OPTIONS, {"x": 1})

    def test_1_is_1_0_and_not_true(self):
        assert key(OPTIONS, {"x": 1, "flag": 1}) == key(OPTIONS, {"x": 1, "flag": 1.0})
        assert key(OPTIONS, {"x": 1, "flag": 1}) != key(OPTIONS, {"x": 1, "flag": True})
        assert key(OPTIONS, {"x": 1, "flag": [1, {"a": 2.0}]}) == key(
            OPTIONS, {"x": 1, "flag": [1.0, {"a": 2}]}
        )

    def test_1_is_not_the_text_1(self):
        assert key(OPTIONS, {"x": 1, "flag": 1}) != key(OPTIONS, {"x": 1, "flag": "1"})

    def test_no_value_is_not_null(self):
        schema = schema_of(name={"type": ["string", "null"], "x-option": True})
        assert key(schema, {}) != key(schema, {"name": None})

    @given(st.permutations([("x", 1), ("scale", 2), ("flag", False), ("name", "n")]))
    def test_the_order_of_fields_does_not_count(self, items):
        assert key(OPTIONS, dict(items)) == key(OPTIONS, {"x": 1, "scale": 2, "flag": False, "name": "n"})

    values = st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 1.5, "1", "true"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    )

    @given(values, values)
    def test_keys_are_equal_exactly_if_the_values_are(self, one, other):
        def typed(value):
            """Tell True from 1, which Python does not."""
            if isinstance(value, list):
                return [typed(item) for item in value]
            if isinstance(value, dict):
                return {name: typed(item) for name, item in value.items()}
            return isinstance(value, bool), value

        schema = schema_of(any={"x-option": True})
        same = key(schema, {"any": one}) == key(schema, {"any": other})
        assert same == (typed(one) == typed(other))


class TestSchema:
    def test_a_valid_input_travels_as_the_json_that_it_is(self):
        value = {"x": 1, "name": "ä\n\U0001f600", "unknown": [None]}
        assert json.loads(OPTIONS.check([value])[0].json) == value

    def test_a_problem_names_input_field_and_rule(self):
        assert problems(OPTIONS, {"x": 1}, {}, {"x": "1"}, 5, {"x": 1, "scale": None}) == [
            ((1, "x"), "missing"),
            ((2, "x"), "type"),
            ((3,), "type"),
            ((4, "scale"), "type"),
        ]

    def test_a_problem_deep_inside_is_named_there(self):
        box = {"type": "object", "properties": {"at": {"type": "array", "items": {"type": "integer"}}}}
        assert problems(schema_of(box=box), {"box": {"at": [1, "2"]}}) == [((0, "box", "at", 1), "type")]

    def test_a_message_does_not_repeat_the_value(self):
        with pytest.raises(InputError) as raised:
            OPTIONS.check([{"x": "A" * 10_000}])
        assert "A" * 10 not in str(raised.value)

    def test_problems_are_limited(self):
        assert len(problems(OPTIONS, *[{}] * (MAX_PROBLEMS + 5))) == MAX_PROBLEMS

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"', '{"\\udfff": 1}'])
    def test_what_python_parses_but_is_no_json_is_refused(self, text):
        value = json.loads(f'{{"x": 1, "unknown": {text}}}')
        # Half a surrogate pair has no place of its own.
        place = (0,) if "ud" in text else (0, "unknown")
        assert problems(OPTIONS, value) == [(place, "json_invalid")]

    @pytest.mark.parametrize("sign", [1, -1])
    def test_an_integer_that_no_float_holds_is_refused_where_the_field_is_a_float(self, sign):
        box = {"type": "object", "properties": {"at": {"type": "number"}}}
        schema = schema_of(
            box=box, whole={"type": "integer"}, type={"type": "number", "maximum": 3, "minimum": -3}
        )
        huge = sign * 10**400
        assert [at for at, _ in problems(schema, {"box": {"at": huge}})] == [(0, "box", "at")]
        assert [at for at, _ in problems(schema, {"type": huge})] == [(0, "type")]
        assert schema.check([{"whole": huge, "box": {"at": sign * 10**308}, "unknown": huge}])

    @pytest.mark.parametrize("field", [{}, {"type": "array", "items": FILE}])
    @pytest.mark.parametrize("depth", [100, 300, 900, 990])
    def test_nesting_is_valid_or_a_problem_and_nothing_else(self, field, depth):
        value = []
        for _ in range(depth):
            value = [value]
        with suppress(InputError):
            assert schema_of(f=field).check([{"f": value}])

    def test_what_is_no_schema_is_refused_and_located(self):
        with pytest.raises(ValueError, match=r'\["x"\]\["type"\]'):
            schema_of(x={"type": "objekt"})


REFUSED = ["http://127.0.0.1/x", "HTTPS://host/x", "file:///etc/passwd", "FILE:/etc/passwd", "ftp://h/x"]
REFUSED += ["/etc/passwd", "etc", "a.png", "", "AAA", "A===", "gopher:x", "~/x"]


class TestFiles:
    @pytest.mark.parametrize("text", ["data:,x", "DATA:image/png;base64,AAAA", "AAAA", "AA==", "AAAA\nAAA="])
    def test_data_uris_and_base64_are_allowed(self, text):
        assert schema_of(f=FILE).check([{"f": text}])

    @pytest.mark.parametrize("text", REFUSED)
    def test_everything_else_is_refused(self, text):
        kind = "url_not_enabled" if text.lower().startswith("http") else "file_invalid"
        assert problems(schema_of(f=FILE), {"f": text}) == [((0, "f"), kind)]

    def test_ordinary_text_may_be_a_url(self):
        assert schema_of(f={"type": "string"}).check([{"f": "http://host/"}])

    @pytest.mark.parametrize(
        ("field", "value", "location"),
        [
            ({"type": "array", "items": FILE}, ["AAAA", "/x"], (1,)),
            ({"type": "array", "prefixItems": [{}, FILE]}, ["/x", "/x"], (1,)),
            ({"type": "array", "prefixItems": [FILE], "items": {}}, ["/x", "/x"], (0,)),
            ({"type": "object", "additionalProperties": FILE}, {"k": "/x"}, ("k",)),
            (
                {"type": "object", "properties": {"a": {}}, "additionalProperties": FILE},
                {"a": "/x", "b": "/x"},
                ("b",),
            ),
            (
                {"type": "object", "properties": {"inner": {"properties": {"f": FILE}}}},
                {"inner": {"f": "/x"}},
                ("inner", "f"),
            ),
            ({"anyOf": [FILE, {"type": "null"}]}, "/x", ()),
            (
                {"type": "array", "items": {"anyOf": [MASKED, {"type": "null"}]}},
                [None, {"image": "AAAA", "mask": "/x"}],
                (1, "mask"),
            ),
            (MASKED, {"image": "file:///x", "mask": "AAAA"}, ("image",)),
        ],
    )
    def test_a_file_is_found_wherever_the_schema_has_one(self, field, value, location):
        assert problems(schema_of(f=field), {"f": value}) == [((0, "f", *location), "file_invalid")]

    @pytest.mark.parametrize(
        ("field", "good", "bad"),
        [
            ({"anyOf": [FILE, {"enum": ["x", 3]}]}, "x", "y"),
            ({"anyOf": [{"type": "string", "maxLength": 3}, FILE]}, "o!", "no file!"),
            ({"anyOf": [FILE_LIST, {"type": "array", "items": {"enum": ["x"]}}]}, ["x", "x"], ["x", "y"]),
            ({"type": "array", "items": {"anyOf": [FILE, {"enum": ["x"]}]}}, ["x", "AAAA"], ["x", "y"]),
        ],
    )
    def test_a_text_that_another_type_of_the_union_takes_need_be_no_file(self, field, good, bad):
        schema = schema_of(f=field)
        assert schema.check([{"f": good}])
        assert {kind for _, kind in problems(schema, {"f": bad})} == {"file_invalid"}

    def test_but_an_address_might_be_fetched_all_the_same(self):
        schema = schema_of(f={"anyOf": [FILE, {"type": "string"}]})
        assert problems(schema, {"f": "http://host/"}) == [((0, "f"), "url_not_enabled")]

    def test_a_missing_optional_file_is_no_problem(self):
        assert schema_of(f={"anyOf": [FILE, {"type": "null"}], "default": None}).check([{}, {"f": None}])


OPTIONAL = {"type": "null"}
INNER = {"type": "object", "properties": {"q": {"type": "integer"}}, "required": ["q"]}


class TestUnions:
    @pytest.mark.parametrize(
        ("members", "value", "location", "kind"),
        [
            ([{"type": "integer", "minimum": 1}, OPTIONAL], 0, ("f",), "minimum"),
            ([{"type": "integer", "minimum": 1}, OPTIONAL], "x", ("f",), "type"),
            ([INNER, OPTIONAL], {}, ("f", "q"), "missing"),
            ([{"type": "array", "items": OPTIONAL}, OPTIONAL], [None, 1], ("f", 1), "type"),
            ([{"type": "array", "items": INNER}, OPTIONAL], [{"q": 1}, {"q": "x"}], ("f", 1, "q"), "type"),
            ([{"type": "integer"}, {"type": "string", "maxLength": 2}, OPTIONAL], "abc", ("f",), "maxLength"),
            ([{"type": "integer"}, {"type": "string"}, OPTIONAL], [], ("f",), "anyOf"),
            (
                [{"type": "array", "items": {"anyOf": [INNER, OPTIONAL]}}, OPTIONAL],
                [{}],
                ("f", 0, "q"),
                "missing",
            ),
        ],
    )
    def test_the_problem_is_the_inner_one_at_its_place(self, members, value, location, kind):
        assert problems(schema_of(f={"anyOf": members}), {"f": value}) == [((0, *location), kind)]

    def test_the_words_are_those_of_a_field_that_is_no_union(self):
        field = {"type": "integer", "minimum": 1}
        told = []
        for one in (field, {"anyOf": [field, OPTIONAL]}):
            with pytest.raises(InputError) as raised:
                schema_of(f=one).check([{"f": 0}])
            told.append(str(raised.value))
        assert told[0] == told[1]

    def test_all_values_of_a_choice_are_told(self):
        with pytest.raises(InputError, match='the value is not one of "a", "b", "c", 4, true or null'):
            schema_of(f={"enum": ["a", "b", "c", 4, True, None]}).check([{"f": "d"}])
        with pytest.raises(InputError, match=r'the value is not one of "a"$'):
            schema_of(f={"enum": ["a"]}).check([{"f": "d"}])


def test_whole_numbers_are_exact():
    schema = schema_of(f={"type": "integer", "maximum": 2**63}, g={"enum": [2**53 + 1]})
    assert (
        schema.check([{"f": 2**63, "g": 2**53 + 1}])[0].json
        == b'{"f":9223372036854775808,"g":9007199254740993}'
    )
    assert problems(schema, {"f": 2**63 + 1}) == [((0, "f"), "maximum")]
    assert problems(schema, {"g": 2**53}) == [((0, "g"), "enum")]
