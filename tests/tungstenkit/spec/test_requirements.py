"""What may stand in python_packages, and what is said of the rest."""

import codecs
import os

import pytest
from packaging.specifiers import SpecifierSet

from tungstenkit.sdk.wishes import IGNORED
from tungstenkit.spec.requirement_files import written_out
from tungstenkit.spec.requirements import Git, parse, problem, wanted

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


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "git+https://host.example/me/foo.git@v1#egg=Foo_Bar[b,a]&subdirectory=py",
            {
                "name": "foo-bar",
                "extras": ("a", "b"),
                "git": Git("https://host.example/me/foo.git", "v1"),
                "subdirectory": "py",
            },
        ),
        # What it leads to says what it is.
        ("git+https://host.example/me/foo", {"name": None, "git": Git("https://host.example/me/foo", None)}),
        (
            "-e git+ssh://git@host.example/foo#egg=foo",
            {"name": "foo", "git": Git("ssh://git@host.example/foo", None)},
        ),
        ("-e ./lib[b,a]", {"name": None, "path": "lib", "extras": ("a", "b")}),
        (
            f"https://host.example/Foo-1.0-py3-none-any.whl#sha256={HASH}",
            {"name": "foo", "url": "https://host.example/Foo-1.0-py3-none-any.whl", "hashes": {HASH}},
        ),
        ("https://host.example/foo-1.0.tar.gz", {"name": "foo"}),
        ("https://host.example/me/foo/archive/main.zip", {"name": None}),
        # What conda's builders leave in `pip freeze` is the index's, of that version where it is told.
        (
            f"numpy @ file:///home/conda/feedstock_root/x/work/dist/numpy-1.25.0-py3-none-any.whl#sha256={HASH}",
            {
                "name": "numpy",
                "specifier": SpecifierSet("==1.25.0"),
                "is_direct": False,
                "hashes": frozenset(),
            },
        ),
        (
            "certifi @ file:///croot/certifi_1690232220950/work/certifi",
            {"name": "certifi", "specifier": SpecifierSet(), "is_direct": False},
        ),
        ("cffi @ file:///C:/b/abs_49n3v2hyhr/croot/cffi_1670423218144/work", {"is_direct": False}),
        ("cffi @ file:///tmp/build/80754af9/cffi_1600699165/work", {"is_direct": False}),
        (
            "file:///home/conda/feedstock_root/six_1620240208055/work/dist/six-1.16.0-py2.py3-none-any.whl",
            {"name": "six", "specifier": SpecifierSet("==1.16.0")},
        ),
    ],
)
def test_what_other_tools_print_is_taken(entry, expected):
    found = only(entry)
    assert {key: getattr(found, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("https://host.example/me/foo", "git+https://host.example/me/foo"),
        ("https://host.example/me/foo/tree/dev/", "git+https://host.example/me/foo@dev"),
        ("foo @ https://host.example/me/foo.git", "foo @ git+https://host.example/me/foo.git"),
        ("foo @ git+ssh://git@host.example:me/foo.git", "git+ssh://git@host.example/me/foo.git"),
        ("foo @ file:///home/me/work/lib", "foo @ ./lib"),
        ("-e /home/me/lib", "./lib"),
        ("file:///tmp/foo-1.0-py3-none-any.whl", "./foo-1.0-py3-none-any.whl"),
        (
            "git+https://host.example/me/foo.git@v1 ; python_version < '3.12'",
            "foo @ git+https://host.example/me/foo.git@v1 ; python_version < '3.12'",
        ),
        ("./lib ; sys_platform == 'linux'", "lib @ ./lib ; sys_platform == 'linux'"),
    ],
)
def test_the_line_to_write_instead_is_right_as_it_stands(entry, line):
    what = problem(entry)
    assert what.endswith(f"write {line!r}")
    assert problem(line) is None


@pytest.mark.parametrize("option", IGNORED)
def test_an_option_that_changes_nothing_is_said_to(option):
    wishes = parse(["six", option if problem(option) is None else f"{option} x"])
    assert [one.name for one in wishes.requirements] == ["six"]
    (notice,) = wishes.notices
    assert option in notice
    assert IGNORED[option] in notice


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--index https://host.example/simple", "--extra-index-url https://host.example/simple"),
        ("--default-index=https://host.example/simple", "--index-url https://host.example/simple"),
    ],
)
def test_uvs_options_lead_to_pips(option, line):
    assert problem(option).endswith(f"write {line!r}")
    assert problem(line) is None


PIPS = """
--requirement --constraint --build-constraint --requirements-from-script --no-deps --only-deps --editable
--dry-run --target --platform --python-version --implementation --abi --user --root --prefix --src --upgrade
--upgrade-strategy --force-reinstall --ignore-installed --ignore-requires-python --no-build-isolation
--check-build-dependencies --break-system-packages --config-settings --compile --no-compile
--no-warn-script-location --no-warn-conflicts --require-hashes --no-require-hashes --progress-bar
--root-user-action --report --group --no-clean --pre --all-releases --only-final --no-binary --only-binary
--prefer-binary --index-url --extra-index-url --no-index --refresh-package --find-links --uploaded-prior-to
--debug --isolated --require-virtualenv --python --verbose --quiet --log --no-input --keyring-provider
--proxy --no-proxy-env --retries --timeout --exists-action --trusted-host --cert --client-cert --cache-dir
--no-cache-dir --disable-pip-version-check --no-color --use-feature --use-deprecated --resume-retries
"""
"""What `pip install --help` lists."""


@pytest.mark.parametrize("option", PIPS.split())
def test_every_option_of_pips_is_taken_or_has_a_hint_of_its_own(option):
    said = [problem(text) or "" for text in (option, f"{option} 3.12")]
    assert not any("does not count here" in one for one in said)
    # Not with another's value, and not with a placeholder of ours.
    assert not any("{" in one for one in said)


def test_an_option_that_is_an_argument_here_leads_to_it():
    assert problem("--python-version 3.12").endswith("python_version='3.12'")


def test_what_counts_otherwise_than_for_pip_is_told():
    wishes = parse(
        [
            "-e ./lib",
            "certifi @ file:///croot/certifi_1690232220950/work/certifi",
            "cffi @ file:///croot/cffi_1690232220950/work",
            "six @ file:///croot/six_1690232220950/work/dist/six-1.16.0-py3-none-any.whl",
        ]
    )
    said = ["-e ./lib", "six==1.16.0", "certifi, cffi"]
    assert [notice.partition(":")[0] for notice in wishes.notices] == said
    assert "pip list --format=freeze" in wishes.notices[2]


def test_what_a_file_of_constraints_holds_is_never_installed(tmp_path):
    (tmp_path / "limits.txt").write_text("numpy<2\n-e git+https://host.example/foo#egg=foo\n")
    (_, limit), (_, editable) = written_out(["-c limits.txt"], tmp_path)
    assert limit == "-c numpy<2"
    assert "more than a name" in problem(editable)


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
        ("--no-such-option", "does not count here"),
        ("--pre", "write it at the one"),
        ("-e .", "the model's own folder"),
        (".[dev]", "the model's own folder"),
        ("git+https://host.example/foo#egg=foo==1", "what is no project"),
        ("git+https://host.example/foo#egg=tungstenkit", "must not be asked for"),
        ("file:///home/conda/feedstock_root/x_1687808301083/work", "write its name"),
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


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfsix\r\nfoo==1.0 \\\r\n    --hash=sha256:" + HASH.encode() + b"\r\n",
        *(f"six\r\nfoo==1.0 --hash=sha256:{HASH}\r\n".encode(encoding) for encoding in ("utf-16", "utf-32")),
        codecs.BOM_UTF16_BE + f"six\nfoo==1.0 --hash=sha256:{HASH}".encode("utf-16-be"),
    ],
)
def test_files_of_other_systems_are_read(tmp_path, data):
    """`pip freeze > requirements.txt` writes UTF-16 in PowerShell, and editors put marks before UTF-8."""
    (tmp_path / "requirements.txt").write_bytes(data)
    (tmp_path / "outer.txt").write_bytes(b"\xef\xbb\xbf-r requirements.txt\r\n")
    found = [entry for _, entry in written_out(["-r outer.txt"], tmp_path)]
    assert found == ["six", f"foo==1.0 --hash=sha256:{HASH}"]


def test_a_file_of_no_known_encoding_is_an_error(tmp_path):
    (tmp_path / "requirements.txt").write_bytes("# grün".encode("latin-1"))
    with pytest.raises(ValueError, match="neither UTF-8 nor UTF-16"):
        list(written_out(["-r requirements.txt"], tmp_path))


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
