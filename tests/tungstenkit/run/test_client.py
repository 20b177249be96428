"""`name=value` texts into a form, and files out of an output."""

import base64
import json
import socket
import sys
from contextlib import ExitStack

import pytest

from tungstenkit.run import fields
from tungstenkit.run.client import Client, SavedFile, checked_input, parse_input, save_files
from tungstenkit.sdk.errors import RunError
from tungstenkit.spec.files import RESULTS

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
MASKED = {
    "type": "object",
    "x-file-type": "masked_image",
    "properties": {"image": FILE, "mask": FILE},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "photo": FILE,
        "perhaps": {"anyOf": [FILE, {"type": "null"}]},
        "photos": {"type": "array", "items": FILE},
        "album": {"anyOf": [{"type": "array", "items": FILE}, {"type": "null"}]},
        "masked": MASKED,
    },
}
PNG = b"\x89PNG"
URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@pytest.fixture
def parse():
    with ExitStack() as stack:

        def parse(*texts):
            """Name, file name, content and media type of each part."""
            parts = parse_input(texts, SCHEMA, stack)
            return [
                (name, file, content if isinstance(content, str) else content.read(), kind)
                for name, (file, content, kind) in parts
            ]

        yield parse


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a=b.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.parametrize("value", ["", "a=b=c", "@home", "data:,x", "[1]"])
def test_a_text_goes_as_it_is(parse, value):
    assert parse(f"text={value}") == [("text", None, value, None)]


@pytest.mark.parametrize("name", ["photo", "perhaps", "photos", "masked.image"])
@pytest.mark.parametrize("at", ["", "@"])
def test_a_files_field_is_a_path(parse, picture, name, at):
    assert parse(f"{name}={at}{picture}") == [(name, "a=b.png", PNG, "image/png")]


@pytest.mark.parametrize("name", ["photos", "album"])
def test_a_list_of_files_may_be_json(parse, picture, name):
    sent = (name, "a=b.png", PNG, "image/png")
    assert parse(f"{name}={json.dumps([str(picture), f'@{picture}', URI])}") == [
        sent,
        sent,
        (name, None, URI, None),
    ]
    assert parse(f"{name}=[]") == [(name, None, "[]", None)]
    with pytest.raises(RunError, match=r"none\.png can't be read") as caught:
        parse(f'{name}=["/none.png", "/none.jpg"]')
    assert len(caught.value.what.splitlines()) == 2


def test_no_list_of_files_is_null(parse):
    assert parse("album=null", "perhaps=null") == [
        ("album", None, "null", None),
        ("perhaps", None, "null", None),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.npz", "application/octet-stream"),
        ("a.nii.gz", "application/gzip"),
        ("a.wav", "audio/wav"),
        ("a.flac", "audio/flac"),
    ],
)
def test_a_files_type_is_what_its_name_says_on_every_machine(parse, tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"x")
    assert parse(f"photo={tmp_path / name}") == [("photo", name, b"x", kind)]


def test_a_files_field_may_be_a_uri(parse):
    for uri in (URI, "https://example.invalid/a.png"):
        assert parse(f"photo={uri}") == [("photo", None, uri, None)]


def test_everything_that_is_wrong_is_told_at_once(parse, tmp_path):
    with pytest.raises(RunError) as caught:
        parse("text", "=x", "unknown=1", "masked.edge=1", f"photo={tmp_path}/none", f"photos={tmp_path}")
    problems = caught.value.what.splitlines()
    assert len(problems) == 6
    assert problems[2] == "unknown: the model has no such input"
    with pytest.raises(RunError, match=r"phto: the model has no such input; did you mean photo\?"):
        parse("phto=1")
    assert "No such file" in problems[4]
    assert "Is a directory" in problems[5]
    assert caught.value.hint.startswith(
        "the model's inputs are: text, photo, perhaps, photos, album, masked; "
    )


def test_a_list_of_files_that_is_no_json_is_told_as_that(parse, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="photos: the text is not JSON: ") as caught:
        parse('photos=["a.png",')
    assert "line 1 column" in caught.value.what
    with pytest.raises(RunError, match="photos: the text is not JSON: "):
        parse(f'photos=["{"a" * 5000}.png"')
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[1.png").write_bytes(PNG)
    assert parse("photos=[1.png") == [("photos", "[1.png", PNG, "image/png")]


NUMBERS = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": {"type": "integer", "maximum": 9},
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "photo": FILE,
    },
}


class TestBeforeThereIsAServer:
    """What a server would refuse is told without one."""

    @pytest.mark.parametrize(
        ("texts", "problems"),
        [
            ([], ["n: the field is required"]),
            (["n=x"], ['n: the value is not of type "integer"']),
            (["n=10"], ["n: the value is greater than the maximum of 9"]),
            (["n=1", "n=2"], ["n: the field is given more than once"]),
            (["n=1", "numbers=[1, true]"], ['numbers.1: the value is not of type "integer"']),
            (["n=1", "photo=data:x"], ["photo: the data: URI is malformed"]),
        ],
    )
    def test_what_is_wrong_is_named(self, texts, problems):
        with ExitStack() as stack, pytest.raises(RunError) as caught:
            checked_input(texts, NUMBERS, stack)
        assert caught.value.what.splitlines() == problems
        assert caught.value.where == "-i"
        assert caught.value.hint.startswith("the model's inputs are: n, ")
        assert caught.value.hint.endswith("`-i n=…` gives one")

    def test_broken_json_is_called_that(self):
        with ExitStack() as stack, pytest.raises(RunError, match="numbers: the text is not JSON: Expecting"):
            checked_input(["n=1", "numbers=[1,"], NUMBERS, stack)

    def test_what_is_right_is_sent_as_it_is(self, picture):
        """Whether the server fetches from an address is its own to say."""
        with ExitStack() as stack:
            (_, (name, content, _)), number = checked_input([f"photo={picture}", "n=1"], NUMBERS, stack)
            assert (name, content.read(), number) == (picture.name, PNG, ("n", (None, "1", None)))
            checked_input(["n=1", "photo=https://example.invalid/a.png"], NUMBERS, stack)
        assert not [path for path in sys.path if path.endswith("/server") and sys.path.count(path) > 1]


def test_files_become_paths_called_after_their_fields(tmp_path):
    schema = {
        "properties": {
            "photo": FILE,
            "found": {"items": {"properties": {"crop": FILE}}},
            "by": {"additionalProperties": FILE},
        }
    }
    value = {"photo": URI, "found": [{"crop": URI}], "by": {"../x": URI}}
    saved = save_files(value, schema, tmp_path / "new")
    folder = tmp_path / "new"
    assert saved == {
        "photo": str(folder / "photo.png"),
        "found": [{"crop": str(folder / "found-0-crop.png")}],
        "by": {"../x": str(folder / "by-___x.png")},
    }
    assert {path.read_bytes() for path in folder.iterdir()} == {PNG}


@pytest.mark.parametrize(
    ("media_type", "suffix"),
    [
        ("audio/wav", ".wav"),
        ("audio/x-wav", ".wav"),
        ("application/octet-stream", ".bin"),
        ("application/octet-stream;name=file.npz", ".npz"),
        ("application/gzip;name=file.nii.gz", ".nii.gz"),
        ("model/stl;name=file.stl", ".stl"),
        ("image/png;name=file.%2F..", ".png"),
    ],
)
def test_a_file_keeps_its_suffix(tmp_path, media_type, suffix):
    saved = save_files({"photo": f"data:{media_type};base64,AAAA"}, {"properties": {"photo": FILE}}, tmp_path)
    assert saved == {"photo": str(tmp_path / f"photo{suffix}")}


def test_the_usual_folder_is_none_of_gits(tmp_path):
    save_files({"image": URI}, {"properties": {"image": FILE}}, tmp_path / RESULTS)
    assert sorted(path.name for path in (tmp_path / RESULTS).iterdir()) == [".gitignore", "image.png"]
    assert (tmp_path / RESULTS / ".gitignore").read_text() == "*\n"


def test_no_file_is_overwritten(tmp_path):
    schema = {"properties": {"photo": FILE}}
    saved = [save_files({"photo": URI}, schema, tmp_path)["photo"] for _ in range(3)]
    assert saved == [str(tmp_path / name) for name in ("photo.png", "photo.1.png", "photo.2.png")]


def test_a_text_that_looks_like_a_file_stays_one(tmp_path):
    value = {"text": URI, "n": None, "other": [URI]}
    assert save_files(value, {"properties": {"text": {"type": "string"}}}, tmp_path) == value
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cant_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="can't be saved") as caught:
        save_files({"photo": URI}, {"properties": {"photo": FILE}}, tmp_path / "taken")
    assert "taken" in caught.value.where


def test_a_server_that_is_not_there_is_told_in_the_systems_words():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(RunError) as caught:
            Client(f"http://127.0.0.1:{nobody.getsockname()[1]}", here=True).metadata()
    assert caught.value.what == "the server can't be asked: Connection refused"


def test_an_item_of_a_tuple_has_its_own_schema():
    pair = {"type": "array", "prefixItems": [{"type": "string"}, FILE], "items": False}
    assert fields.member(pair, 0) == {"type": "string"}
    assert fields.file_type(fields.member(pair, 1)) == "image"
    assert fields.member(pair, 2) is None
    assert fields.file_type({"anyOf": [MASKED, {"type": "null"}]}) is None


@pytest.mark.parametrize("path", ["/etc/hostname", "file:///etc/hostname"])
def test_a_path_that_a_server_names_is_no_file_that_was_saved(tmp_path, path):
    (saved,) = save_files({"photo": URI}, {"properties": {"photo": FILE}}, tmp_path).values()
    assert isinstance(saved, SavedFile)
    (named,) = save_files({"photo": path}, {"properties": {"photo": FILE}}, tmp_path).values()
    assert (named, type(named)) == (path, str)
    with pytest.raises(RunError, match="can't be read"):
        save_files({"photo": "data:no comma"}, {"properties": {"photo": FILE}}, tmp_path)
