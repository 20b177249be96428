"""What is found in a `Packages` file, and that nothing is read but what is asked for."""

import pytest

from tests.tungstenkit.debian.test_solve import stanza
from tungstenkit.debian.control import Relation
from tungstenkit.debian.packages import PackagesFile, write_places
from tungstenkit.sdk.errors import UnusableError


@pytest.fixture
def listing(tmp_path):
    def write(*stanzas, end="\n"):
        path = tmp_path / "Packages"
        path.write_text("\n\n".join(stanzas) + end)
        write_places(path, tmp_path / "places")
        return PackagesFile(path, tmp_path / "places", "debian")

    return write


def test_a_package_is_what_its_stanza_says(listing):
    (package,) = listing(
        stanza("x"),
        stanza(
            "a",
            "1:2-3",
            Source="src (4)",
            Priority="standard",
            Depends="b | c (>= 2)",
            Pre_Depends="d",
            Conflicts="e",
            Breaks="f (<< 3)",
            Replaces="g",
            Provides="h, i (= 1)",
            Recommends="j",
        ),
    ).named("a")
    assert (package.name, package.version, package.architecture) == ("a", "1:2-3", "amd64")
    assert (package.archive, package.source, package.priority) == ("debian", "src (4)", "standard")
    assert (package.file, package.size, package.sha256) == ("pool/main/a/a_1:2-3.deb", 10, "ab" * 32)
    assert package.depends == ((Relation("d"),), (Relation("b"), Relation("c", None, ">=", "2")))
    assert package.conflicts == ((Relation("e"),), (Relation("f", None, "<<", "3"),))
    assert package.provides == (Relation("h"), Relation("i", None, "=", "1"))


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_the_first_the_middle_and_the_last_are_found_however_the_file_ends(listing, end):
    file = listing(*(stanza(name) for name in "abc"), stanza("b", "2"), end=end)
    assert list(file.names()) == ["a", "b", "c"]
    assert {name: [p.version for p in file.named(name)] for name in "abcd"} == {
        "a": ["1"],
        "b": ["1", "2"],
        "c": ["1"],
        "d": [],
    }


def test_an_empty_file_has_none(listing):
    file = listing(end="")
    assert list(file.names()) == []
    assert file.named("a") == file.providers("a") == []


def test_fields_stand_in_any_order_and_folded_text_is_none(listing):
    text = " Package: not-this\n Provides: nor-this"
    first = stanza("a", Description=f"short\n{text}", Provides="virtual")
    last = "Provides: virtual\n" + stanza("b").replace("Package: b\n", "") + "\nPackage: b"
    file = listing(first, last, f"Description: short\n{text}\n{stanza('c', Provides='virtual')}")
    assert list(file.names()) == ["a", "b", "c"]
    assert [package.name for package in file.providers("virtual")] == ["a", "b", "c"]
    assert file.named("not-this") == file.providers("nor-this") == []


@pytest.mark.parametrize(
    "field", ["v", "u, v", "u(= 1),v(= 2)", "v (= 1), u", "u (= v),  v:any (= 2)", "u,\n v", "v,v"]
)
def test_who_provides_a_name_is_found_as_it_is_written(listing, field):
    file = listing(stanza("a", Provides=field), stanza("v-a", Provides="v-b"))
    assert {package.name for package in file.providers("v")} == {"a"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SHA256:", "Other:"),
        ("Version: 1", "Version: one thing"),
        ("Size: 10", "Size: 10\nDepends: b (>= )"),
        ("Size: 10", "Size: 10\nProvides: b (= one_thing)"),
        ("Size: 10", "Size: much"),
    ],
)
def test_a_malformed_package_is_named_by_who_asks_for_it(listing, old, new):
    file = listing(stanza("good"), stanza("bad").replace(old, new))
    assert [package.name for package in file.named("good")] == ["good"]
    with pytest.raises(UnusableError, match="can't be read") as caught:
        file.named("bad")
    assert caught.value.where == "bad in the package index"
