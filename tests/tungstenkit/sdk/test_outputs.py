"""What is fixed of an output stays as it was, and what may be another input's is told."""

import contextlib
import copy
import datetime as dt
import decimal
import enum
import json
import os
from typing import Annotated, Any

import PIL.Image
import pydantic
import pytest

from tungstenkit import BaseIO, Binary, Image, Option
from tungstenkit.sdk import look, outputs
from tungstenkit.sdk.outputs import PerhapsSharedError, SharedError, check_files, check_objects, computes
from tungstenkit.sdk.temporary import temporary_files


class Inner(BaseIO):
    tag: str = ""


class Output(BaseIO):
    text: str = ""
    items: list[str] = Option([])
    inner: Inner = Inner()
    anything: Any = None
    files: list[Binary] = Option([])
    picture: Image | None = None


class Flat(BaseIO):
    text: str = ""
    file: Binary | None = None


class Loose(BaseIO):
    model_config = pydantic.ConfigDict(extra="allow")


class Colour(enum.Enum):
    RED = "red"


def fixed(value, limit=10**9):
    with outputs.Fixing(limit) as fix:
        return fix(value)


class TestFixing:
    def test_what_holds_no_file_is_json_at_once(self):
        assert json.loads(fixed(Flat(text="ä")))["text"] == "ä"

    def test_what_holds_files_is_written_as_the_sdk_writes_it(self, tmp_path):
        (tmp_path / "x.txt").write_text("x")
        value = Output(text='"\\ä', files=[tmp_path / "x.txt", Binary.from_bytes(b"y"), "https://x.invalid/"])
        assert fixed(value).text() == value.model_dump_json().encode()

    @pytest.mark.parametrize("big", [False, True])
    def test_files_are_as_they_were(self, tmp_path, monkeypatch, big):
        if big:
            monkeypatch.setattr(outputs, "_BIG_FILE", 3)
        path = tmp_path / "x.txt"
        path.write_text("first")
        with temporary_files():
            value = fixed(Flat(file=path))
            path.write_text("second")
            expected = value.text()
            assert Binary(json.loads(expected)["file"]).to_bytes() == b"first"
            path.unlink()
            assert value.text() == expected

    def test_a_big_file_is_read_where_it_cannot_be_copied(self, tmp_path, monkeypatch):
        monkeypatch.setattr(outputs, "_BIG_FILE", 3)

        def fail():
            raise OSError("no space")

        monkeypatch.setattr(outputs, "new_temporary_file", fail)
        path = tmp_path / "x.txt"
        path.write_text("first")
        value = fixed(Flat(file=path))
        path.write_text("second")
        assert Binary(json.loads(value.text())["file"]).to_bytes() == b"first"

    def test_a_file_above_the_limit_is_not_read(self, tmp_path):
        path = tmp_path / "x.bin"
        with path.open("wb") as file:
            file.truncate(10**12)
        assert fixed(Flat(file=path), limit=1000).size > 1000

    def test_pictures_are_as_they_were(self):
        canvas = PIL.Image.new("RGB", (4, 4), "red")
        value = fixed(Output(picture=Image.from_pil_image(canvas)))
        canvas.paste("blue", (0, 0, 4, 4))
        picture = Image(json.loads(value.text())["picture"]).to_pil_image()
        assert picture.getpixel((0, 0)) == (255, 0, 0)

    def test_a_text_that_looks_like_a_mark_is_a_text(self):
        first = fixed(Flat(file=Binary.from_bytes(b"secret")))
        mark = json.loads(first.json)["file"]
        second = fixed(Flat(text=mark, file=Binary.from_bytes(b"own")))
        assert json.loads(second.text())["text"] == mark

    def test_what_fails_leaves_nothing_for_the_next(self, tmp_path):
        with outputs.Fixing(1000) as fix:
            with pytest.raises(Exception, match="is not there"):
                fix(Output(files=[Binary.from_bytes(b"x"), tmp_path / "absent"]))
            assert isinstance(fix(Flat(text="x")), bytes)

    def test_files_that_are_not_there_are_named_by_their_fields(self, tmp_path):
        gone = tmp_path / "gone.png"
        with pytest.raises(FileNotFoundError) as caught:
            fixed(Output(files=[Binary.from_bytes(b"x"), gone], picture=gone, text=str(gone)))
        assert str(caught.value) == (
            f"files.1: {gone} is not there; picture: {gone} is not there; "
            "the file of an output is read after `predict` has returned"
        )

    def test_outside_files_are_written_as_ever(self):
        with contextlib.suppress(ValueError), outputs.Fixing(1000):
            raise ValueError
        assert json.loads(Flat(file=Binary.from_bytes(b"x")).model_dump_json())["file"].startswith("data:")


class TestObjects:
    @pytest.mark.parametrize(
        "value",
        [
            *(Flat(text="x"), Flat(file=Binary.from_bytes(b"x")), (1, ("x",)), "x", None, Colour.RED),
            *(decimal.Decimal(1), dt.date.min, frozenset({1})),
        ],
        ids=repr,
    )
    def test_what_cannot_have_changed_may_stand_twice(self, value):
        check_objects([value, value], [1, 2])

    @pytest.mark.parametrize(
        "value",
        [
            *([], {}, {1}, {"x": [1]}, ([],), Output(), Output(items=["x"]), Loose(more=[])),
            *(iter("x"), object(), bytearray(b"x")),
        ],
        ids=repr,
    )
    def test_what_may_have_changed_is_for_calls_of_their_own(self, value):
        with pytest.raises(PerhapsSharedError):
            check_objects([value, value], [1, 2])

    def test_so_is_what_is_inside_others(self):
        shared = ["x"]
        with pytest.raises(PerhapsSharedError):
            check_objects([Output(anything=shared), {"deep": [shared]}], [1, 2])

    @pytest.mark.parametrize("value", [iter("x"), object()], ids=["iterator", "object"])
    def test_and_what_is_not_looked_into(self, value):
        with pytest.raises(PerhapsSharedError):
            check_objects([Output(anything=value), Output()], [1, 2])

    def test_an_object_that_was_changed_must_not_stand_twice(self):
        value = Flat()
        value.text = "x"
        with pytest.raises(SharedError, match="one Flat object, changed since it was made"):
            check_objects([value, value], [1, 2])
        inner = Inner()
        inner.tag = "x"
        with pytest.raises(SharedError, match="one Inner object"):
            check_objects([Output(inner=inner), Output(inner=inner)], [1, 2])

    def test_for_equal_inputs_it_may(self):
        value = Output()
        value.text = "x"
        check_objects([value, value], [1, 1])

    def test_objects_of_their_own_are_fine(self):
        check_objects([Output(items=["x"], anything=[{}]), Output(items=["x"], anything=[{}])], [1, 2])

    def test_a_copy_is_an_object_of_its_own(self):
        value = Flat()
        value.text = "x"
        check_objects([value, copy.deepcopy(value)], [1, 2])


class TestFiles:
    @pytest.fixture(autouse=True)
    def looking(self):
        with outputs.looking_at_files():
            yield

    def read(self, *files):
        return fixed(Output(files=list(files))).read

    def test_one_that_was_there_before_may_stand_twice(self, tmp_path):
        path = tmp_path / "x"
        path.write_text("x")
        since = max(one.changed for one in self.read(path).values()) + 1
        check_files([self.read(path), self.read(path)], [1, 2], since)

    def test_one_that_was_written_since_must_not(self, tmp_path):
        since = look.file_clock()
        path = tmp_path / "x"
        path.write_text("x")
        with pytest.raises(SharedError, match="one file that was written during the call"):
            check_files([self.read(path), self.read(path)], [1, 2], since)
        check_files([self.read(path), self.read(path)], [1, 1], since)

    def test_by_whatever_name(self, tmp_path):
        since = look.file_clock()
        path, other, link = tmp_path / "x", tmp_path / "y", tmp_path / "link"
        path.write_text("x")
        other.hardlink_to(path)
        link.symlink_to(path)
        for name in (other, link):
            with pytest.raises(SharedError):
                check_files([self.read(path), self.read(name)], [1, 2], since)

    def test_a_link_that_was_made_since_counts_as_written(self, tmp_path):
        path, link = tmp_path / "x", tmp_path / "link"
        path.write_text("x")
        os.utime(path)
        since = max(one.changed for one in self.read(path).values()) + 1
        while look.file_clock() < since:  # a tick of the kernel's
            pass
        link.symlink_to(path)
        with pytest.raises(SharedError):
            check_files([self.read(link), self.read(link)], [1, 2], since)

    def test_each_with_its_own_is_fine(self, tmp_path):
        for name in "xy":
            (tmp_path / name).write_text(name)
        check_files([self.read(tmp_path / "x"), self.read(tmp_path / "y")], [1, 2], 0)

    @pytest.mark.parametrize("later", [False, True])
    def test_one_that_was_written_after_it_was_made_an_output_is_for_calls_of_their_own(
        self, tmp_path, later
    ):
        since = look.file_clock()
        path, other = tmp_path / "x", tmp_path / "y"
        path.write_text("x")
        other.write_text("y")
        files = [Binary.from_path(path), Binary.from_path(other)]
        check_files([self.read(one) for one in files], [1, 2], since)
        if later:
            os.utime(path, (1, 1))
        else:
            path.write_text("z")  # perhaps within a tick
        with pytest.raises(PerhapsSharedError, match="a file was written after it was made an output"):
            check_files([self.read(one) for one in files], [1, 2], since)

    def test_so_is_one_that_was_not_there_when_it_was_made_an_output(self, tmp_path):
        since = look.file_clock()
        file = Binary.from_path(tmp_path / "x")
        (tmp_path / "x").write_text("x")
        with pytest.raises(PerhapsSharedError):
            check_files([self.read(file), {}], [1, 2], since)

    def test_and_one_that_nobody_looked_at_when_it_was_made(self, tmp_path, monkeypatch):
        path = tmp_path / "x"
        path.write_text("x")
        monkeypatch.setattr(look.Look, "wanted", False)
        file = Binary.from_path(path)
        check_files([self.read(file), {}], [1, 2], look.file_clock() + 10**9)
        with pytest.raises(PerhapsSharedError):
            check_files([self.read(file), {}], [1, 2], 0)


class TestComputes:
    """What is written of some classes is the model's code's at that moment."""

    def test_fields_are_what_they_are(self):
        for declared in (Inner, Output, Flat, Loose):
            assert not computes(declared)

    def test_whatever_runs_code_computes(self):
        class Computed(BaseIO):
            @pydantic.computed_field
            @property
            def text(self) -> str:
                return ""

        class OfAField(BaseIO):
            text: str = ""

            @pydantic.field_serializer("text")
            def other(self, value):
                return value

        class OfAll(BaseIO):
            @pydantic.model_serializer
            def other(self):
                return {}

        class Annotation(BaseIO):
            texts: list[Annotated[str, pydantic.PlainSerializer(str)]] = Option([])

        class Inside(BaseIO):
            inner: dict[str, list[Computed]] = Option({})

        class Writes(BaseIO):
            def model_dump_json(self, **_):
                return "{}"

        for declared in (Computed, OfAField, OfAll, Annotation, Inside, Writes):
            assert computes(declared), declared
            with pytest.raises(PerhapsSharedError):
                check_objects([declared(), declared()], [1, 2])
