"""What may stand in python_packages, and what is said of the rest."""

import os

import pytest
from packaging.specifiers import SpecifierSet

from tungstenkit.requirements import Git, parse, problem, wanted, written_out

HASH = "0123456789abcdef" * 4


def only(entry):
    (found,) = parse([entry]).requirements
    return found


def test_a_requirement_of_the_index():
    found = only("Foo_Bar[b,a] >=1,<2 ; python_version < '3.13'")
    assert (found.name, found.extras, found.specifier) == ("foo-bar", ("a", "b"), SpecifierSet(">=1,<2"))
    assert str(found.marker) == 'python_version < "3.13"'
    assert not found.is_direct


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("foo @ https://host.example/foo-1.0.tar.gz", {"url": "https://host.example/foo-1.0.tar.gz"}),
        (
            f"foo @ https://host.example/foo-1.0-py3-none-any.whl#sha256={HASH.upper()}",
            {"url": "https://host.example/foo-1.0-py3-none-any.whl", "hashes": {HASH}},
        ),
        (
            "foo @ https://host.example/mono.zip#subdirectory=py/foo",
            {"url": "https://host.example/mono.zip", "subdirectory": "py/foo"},
        ),
        ("foo @ ./lib", {"path": "lib"}),
        ("foo @ ../lib/", {"path": "../lib"}),
        ("foo @ file:lib", {"path": "lib"}),
        ("./dist/Foo-1.0-py3-none-any.whl", {"path": "dist/Foo-1.0-py3-none-any.whl", "name": "foo"}),
        ("dist/foo-1.0.tar.gz", {"path": "dist/foo-1.0.tar.gz", "name": "foo"}),
        ("./lib", {"path": "lib", "name": None}),
        ("foo @ git+https://host.example/foo", {"git": Git("https://host.example/foo", None)}),
        ("foo @ git+https://host.example/foo.git@v1.0", {"git": Git("https://host.example/foo.git", "v1.0")}),
        (
            "foo @ git+ssh://git@host.example/foo.git@main#subdirectory=py",
            {"git": Git("ssh://git@host.example/foo.git", "main"), "subdirectory": "py"},
        ),
        (f"foo==1.0 --hash=sha256:{HASH} --hash=md5:00", {"hashes": {HASH}}),
    ],
)
def test_where_a_requirement_points(entry, expected):
    found = only(entry)
    assert {key: getattr(found, key) for key in expected} == expected


def test_options_of_pips():
    wishes = parse(
        [
            "foo",
            "--index-url=https://host.example/simple/",
            "--extra-index-url https://more.example/simple",
            "-f ./wheels",
            "--no-binary LXML,foo",
            "-c numpy<2",
        ]
    )
    assert wishes.index_url == "https://host.example/simple"
    assert wishes.extra_index_urls == ("https://more.example/simple",)
    assert wishes.find_links == ("wheels",)
    assert wishes.from_source == {"lxml", "foo"}
    assert [(one.name, str(one.specifier)) for one in wishes.constraints] == [("numpy", "<2")]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("--pre", "does not count here"),
        ("-e ./lib", "an editable install"),
        ("-r", "lacks what -r takes"),
        ("--index-url host.example/simple", "no http or https URL"),
        ("--extra-index-url https://host.example/${TOKEN}/simple", "a variable"),
        ("--extra-index-url https://me:secret@host.example/simple", "written down"),
        ("--no-binary :all:", "does not name projects"),
        ("--only-binary ./x", "as in '--only-binary lxml'"),
        ("foo @ https://token@host.example/foo-1.0.zip", "written down"),
        ("foo @ git+ssh://me:secret@host.example/foo", "written down"),
        ("foo @ https://host.example/foo", "no wheel or source archive"),
        ("foo @ https://host.example/bar-1.0-py3-none-any.whl", "a wheel of bar"),
        ("foo @ ./bar-1.0-py3-none-any.whl", "a wheel of bar"),
        ("foo @ ./bar.whl", "not named as a wheel"),
        ("foo @ /home/me/lib", "an absolute path"),
        ("foo @ file:///home/me/lib", "an absolute path"),
        ("foo @ hg+https://host.example/foo", "not git's"),
        ("foo @ git+host.example/foo", "no git URL"),
        ("foo @ git+https://host.example/foo@", "no branch, tag or commit"),
        ("foo @ ftp://host.example/foo-1.0.zip", "no http, https or git URL"),
        ("foo @ ./lib#subdirectory=../other", "not below it"),
        ("foo @ ./lib#sha256=12", "64 hexadecimal digits"),
        ("foo --hash=md5:00", "no sha256"),
        ("foo --global-option=x", "does not count here"),
        ("./lib ; python_version < '3'", "needs a name"),
        ("-c foo @ ./lib", "more than a name"),
        ("foo bar", "is not a requirement"),
    ],
)
def test_what_is_wrong_is_said(entry, what):
    assert what in problem(entry)


def test_there_is_one_index_url():
    with pytest.raises(ValueError, match="second --index-url"):
        parse(["--index-url https://a.example", "--index-url https://b.example"])


def test_files_are_written_out(tmp_path):
    """pip's format: comments, joined lines, files that name files relative to themselves."""
    (tmp_path / "deps").mkdir()
    (tmp_path / "requirements.txt").write_text(
        f"# a comment\nfoo==1.0 \\\n    --hash=sha256:{HASH}  # why\n\n-r deps/more.txt\n-c limits.txt\n"
    )
    (tmp_path / "deps" / "more.txt").write_text("bar\n--extra-index-url https://host.example/simple\n")
    (tmp_path / "limits.txt").write_text("numpy<2\n-r deeper.txt\n")
    (tmp_path / "deeper.txt").write_text("scipy<1.15\n")
    assert list(written_out(["six", "-r requirements.txt"], tmp_path)) == [
        ("python_packages[0]", "six"),
        ("requirements.txt:2", f"foo==1.0 --hash=sha256:{HASH}"),
        ("more.txt:1", "bar"),
        ("more.txt:2", "--extra-index-url https://host.example/simple"),
        ("limits.txt:1", "-c numpy<2"),
        ("deeper.txt:1", "-c scipy<1.15"),
    ]


def test_a_file_that_never_ends_and_files_without_an_end_are_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"pipe.txt can't be read: it is no file"):
        list(written_out(["-r pipe.txt"], tmp_path))
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n" * 2)
    (tmp_path / "40.txt").write_text("")
    with pytest.raises(ValueError, match="more than 1000 files are named"):
        list(written_out(["-r 0.txt"], tmp_path))


def test_a_file_that_is_not_there_or_names_itself_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"python_packages\[0\]: no.txt can't be read"):
        list(written_out(["-r no.txt"], tmp_path))
    (tmp_path / "a.txt").write_text("-r b.txt\n")
    (tmp_path / "b.txt").write_text("-r a.txt\n")
    with pytest.raises(ValueError, match=r"b.txt:1: a.txt names itself"):
        list(written_out(["-r a.txt"], tmp_path))


def test_the_text_is_kept_for_messages():
    assert wanted("foo  >= 1").text == "foo  >= 1"


@pytest.mark.parametrize("option", ["-r", "-c"])
@pytest.mark.parametrize("way", ["/etc/passwd", "../secret.txt", "link.txt", "sub/../../secret.txt"])
def test_a_file_from_elsewhere_is_not_shown(tmp_path, option, way):
    """What is no requirement is quoted in the error, and what is one is asked of an index."""
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("a secret!\n")
    (model / "link.txt").symlink_to(tmp_path / "secret.txt")
    (model / "inner.txt").write_text(f"{option} {way}\n")
    for entry in (f"{option} {way}", "-r inner.txt"):
        with pytest.raises(ValueError, match="is not in the model's folder") as caught:
            list(written_out([entry], model))
        assert "secret!" not in str(caught.value)
        assert "root:" not in str(caught.value)
