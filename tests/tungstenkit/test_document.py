"""The one shape of our JSON documents."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tungstenkit.document import check_version, to_json, write_atomically
from tungstenkit.lock.parts import Choice
from tungstenkit.sdk.errors import LockError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_writing_and_reading_give_the_value_back(value):
    text = to_json(value)
    assert json.loads(text) == value
    assert text.endswith("\n")


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_keys_does_not_matter(value):
    assert to_json(value) == to_json(dict(reversed(value.items())))


def test_a_problem_names_its_spot():
    with pytest.raises(LockError) as caught:
        Choice.parse('{"kind": 1, "other": 2}', where="choice.json", error=LockError, hint="mend it")
    for part in ("kind: ", "subject: ", "other: ", "in:   choice.json", "hint: mend it"):
        assert part in str(caught.value)


def test_a_document_of_somebody_elses_fills_no_screen():
    text = json.dumps({f"{number}-{'x' * 10_000}": 1 for number in range(1000)})
    with pytest.raises(LockError) as caught:
        Choice.parse(text, where="choice.json", error=LockError, hint="mend it")
    assert len(caught.value.what) < 50_000
    assert caught.value.what.endswith("and 984 more")


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(LockError, match="'a' stands twice"):
        check_version(
            '{"v": 1, "b": {"a": 1, "a": 2}}', "v", (1,), where="x", error=LockError, hint="mend it"
        )


def test_a_write_that_fails_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "document.json"
    path.write_text("old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("document.json", "old")]
