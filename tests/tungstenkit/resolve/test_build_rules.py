"""The table of builds beside a model, and what is known of projects by name."""

from types import SimpleNamespace

import pytest

from tungstenkit.resolve.build_rules import BuildRule, build_requires, is_never_built, read_build_rules
from tungstenkit.sdk.errors import TungstenError


class TestBuildRules:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("foo = 1", "foo: is no table"),
            ("foo.deps = []", r"foo\.deps: no such key; did you mean 'debs'\?"),
            ("foo.debs = 'x'", r"foo\.debs: is not a list of strings"),
            ("foo.version = 1", r"foo\.version: is not a string"),
            ("foo.version = ['1']", r"foo\.version: is not a string"),
            ("foo.debs = [1979-05-27]", r"foo\.debs: is not a list of strings"),
            ("foo.env = {A = '1'}", r"foo\.env: no such key; did you mean 'environment'\?"),
            ("foo.environment = ['A=1']", r"foo\.environment: is not a table of strings"),
            ("foo.environment.A = 1", r"foo\.environment\.A: is not a string"),
            ("foo.environment.'A B' = '1'", r"foo\.environment: 'A B' is not the name of a variable"),
            ("foo.environment.PATH = '/bin'", r"foo\.environment\.PATH: every build sets it itself"),
            ("foo.environment.SOURCE_DATE_EPOCH = '1'", r"SOURCE_DATE_EPOCH: every build sets it itself"),
            ('foo.environment.A = "\\u001B"', r"foo\.environment\.A: holds a control character"),
            (
                "foo.environment.CFLAGS = '-O3 -march=native'",
                r"CFLAGS: -march=native would differ by who builds",
            ),
            ("foo.version = 'next'", r"foo\.version: 'next' is not a version \(PEP 440\)"),
            ("foo.requires = ['a b']", r"foo\.requires: 'a b'"),
        ],
    )
    def test_a_wrong_table_is_an_error(self, tmp_path, text, what):
        (tmp_path / "pyproject.toml").write_text(f"[tool.tungsten.build]\n{text}\n")
        with pytest.raises(TungstenError, match=what):
            read_build_rules(tmp_path)

    def test_all_that_is_wrong_is_named_at_once(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text(
            "[tool.tungsten.build]\na.env = {}\nb.requires = ['a b']\nb.version = 'next'\nc = 1\n"
            "[tool.tungsten.build.d.environment]\nHOME = '/'\nTZ = 'UTC'\nCMAKE_ARGS = []\n"
        )
        with pytest.raises(TungstenError) as caught:
            read_build_rules(tmp_path)
        named = [line.partition(":")[0] for line in caught.value.what.splitlines()]
        assert named == [
            *("a.env", "b.requires", "b.version", "c"),
            *("d.environment.HOME", "d.environment.TZ", "d.environment.CMAKE_ARGS"),
        ]

    def test_variables_of_a_build_are_read(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text(
            '[tool.tungsten.build.Foo]\nenvironment = { CMAKE_ARGS = "-DA=ON", CFLAGS = "-mavx2" }\n'
        )
        assert read_build_rules(tmp_path)["foo"].environment == {"CMAKE_ARGS": "-DA=ON", "CFLAGS": "-mavx2"}

    def test_there_need_be_none(self, tmp_path):
        assert read_build_rules(tmp_path) == {}


@pytest.mark.parametrize(
    ("stated", "is_added"),
    [
        (("setuptools>=40.8.0",), True),
        (("wheel",), True),
        (("setuptools==75.0", "wheel"), False),
        (("Setuptools>=82",), False),
    ],
)
def test_what_imports_pkg_resources_gets_a_setuptools_that_has_it(stated, is_added):
    """But where it asks for another itself."""
    facts = SimpleNamespace(build_requires=stated, imports_pkg_resources=True)
    assert (build_requires(facts, BuildRule())[-1] == "setuptools<81") == is_added
    facts.imports_pkg_resources = False
    assert build_requires(facts, BuildRule(requires=("cython",))) == [*stated, "cython"]


def test_stubs_of_the_index_are_never_built():
    assert is_never_built("nvidia-cublas-cu13")
    assert not is_never_built("lxml")
