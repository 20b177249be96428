"""`Download` and `HuggingFace`: what they mean, and everything that is wrong with them at once."""

import pytest

from tests.tungstenkit.sdk.test_define import define, problems
from tungstenkit import Download, HuggingFace
from tungstenkit.spec.read import read_spec

HASH = "a" * 64


@pytest.mark.parametrize(
    ("to", "path"),
    [(None, "a b.bin"), ("weights/", "weights/a b.bin"), ("weights/x.bin", "weights/x.bin")],
)
def test_a_file_goes_where_it_is_told_or_is_called_as_its_url(to, path):
    assert Download("https://host/some/a%20b.bin?download=true", to=to).path == path


@pytest.mark.parametrize(
    ("file", "what"),
    [
        (Download("ftp://host/x"), "url: 'ftp://host/x' is not an http:// or https:// URL"),
        (Download(7), "url: 7 is not an http:// or https:// URL"),
        (Download("https://[x/y"), "url: 'https://[x/y' is not an http:// or https:// URL"),
        (Download("https://me:secret@host/x"), "url: holds a user name or password"),
        (Download("https://host/x", "abc"), "sha256: 'abc' is not a sha256"),
        (Download("https://host/"), "to: '' names no file"),
        (Download("https://host/x", to="/x"), "to: '/x' is not relative"),
        (Download("https://host/x", to="a/../../x"), "to: 'a/../../x' leads out of the folder"),
        (Download("https://host/x", to="a/.wh.x"), "to: 'a/.wh.x' has a name that begins with .wh."),
        (Download("https://host/%2e%2e"), "to: '..' leads out of the folder"),
        (Download("https://host/x", to="a//x"), "to: 'a//x' has an empty part"),
        (Download("https://host/x", to=1), "to: 1 is not a path"),
        (Download("https://host/x", executable="yes"), "executable: 'yes' is neither"),
        (HuggingFace("a/b/c"), "repo: 'a/b/c' is not the name of a repository"),
        (HuggingFace("https://hub/a/b"), "repo: 'https://hub/a/b' is not the name"),
        (HuggingFace("a/b", "../../x"), "revision: '../../x' leads out"),
        (HuggingFace("a/b", ""), "revision: '' is not a branch"),
        (HuggingFace("a/b", to="../x"), "to: '../x' leads out"),
        (HuggingFace("a/b", type="space"), "type: 'space' is neither"),
        (HuggingFace("a/b", include="*.json"), "include: '*.json' is not a list"),
        (HuggingFace("a/b", exclude=[1]), "exclude: [1] is not a list"),
    ],
)
def test_what_is_wrong_is_named(file, what):
    (problem,) = problems(files=[file])
    assert problem.startswith(f"files[0].{what}")
    assert "secret" not in problem


def test_all_problems_are_named_at_once():
    found = problems(files=[Download("x", "y"), "https://host/x", HuggingFace("", to="/")])
    assert [problem.split(":")[0] for problem in found] == [
        "files[0].url",
        "files[0].sha256",
        "files[1]",
        "files[2].repo",
        "files[2].to",
    ]


def test_the_spec_has_them_written_out_and_no_key_without_them(tmp_path):
    model = """
from tungstenkit import BaseIO, Download, HuggingFace, define_model
@define_model(input=BaseIO, output=BaseIO{})
class Model:
    def predict(self, inputs):
        return inputs
"""
    files = f', files=[Download("https://host/x.bin", "{HASH.upper()}"), HuggingFace("a/b", to="c/")]'
    (tmp_path / "tungsten_model.py").write_text(model.format(files))
    download, repository = read_spec(tmp_path).files
    assert (download.url, download.sha256, download.to) == ("https://host/x.bin", HASH, "x.bin")
    assert (repository.repository, repository.type, repository.revision) == ("a/b", "model", "main")
    assert (repository.to, repository.include, repository.exclude) == ("c", [], [])
    (tmp_path / "tungsten_model.py").write_text(model.format(""))
    assert '"files"' not in read_spec(tmp_path).to_json()


def test_they_stay_on_the_definition():
    cls = define(files=[HuggingFace("gpt2", to=".")])
    assert cls.__tungsten_model__.files == (HuggingFace("gpt2", to="."),)
