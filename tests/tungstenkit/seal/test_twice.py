"""A step counts as settled when two runs made the same, and what Nix says of an unknown hash is understood."""

import hashlib
from pathlib import Path

import pytest

from tests.tungstenkit.seal.test_differences import tar
from tungstenkit import store
from tungstenkit.nix_build.log import OtherHashError
from tungstenkit.sdk.errors import BuildError, LockError
from tungstenkit.seal import twice
from tungstenkit.seal.twice import ExportedStep, MismatchError, make, settled


def runs(*results):
    asked = []

    def run(again):
        asked.append(again)
        return results[len(asked) - 1]

    return run, asked


def test_one_result_of_two_runs_is_settled(tmp_path):
    one = tar(tmp_path / "1", {"a": b"x"})
    run, asked = runs(one, one)
    assert settled(run, None, "step") == one
    assert asked == [False, True]


def test_what_was_settled_before_and_comes_out_again_needs_no_second_run(tmp_path):
    one = tar(tmp_path / "1", {"a": b"x"})
    run, asked = runs(one)
    assert settled(run, one, "step") == one
    assert asked == [False]
    run, asked = runs(one, one)
    assert settled(run, tmp_path / "other", "step") == one
    assert asked == [False, True]


def test_two_paths_with_the_same_bytes_are_one_result(tmp_path):
    run, _ = runs(tar(tmp_path / "1", {"a": b"x"}), tar(tmp_path / "2", {"a": b"x"}))
    assert settled(run, None, "step") == tmp_path / "1"


def test_two_results_are_refused_with_the_files_names(tmp_path):
    run, _ = runs(
        tar(tmp_path / "1", {str(number): b"x" for number in range(50)}),
        tar(tmp_path / "2", {str(number): b"y" for number in range(50)}),
    )
    with pytest.raises(LockError, match="two runs did not make the same") as caught:
        settled(run, None, "post_build of m.Model")
    assert caught.value.where == "post_build of m.Model"
    assert "/0:\n  -x\n  +y" in caught.value.what
    assert "and 30 more" in caught.value.what


def test_another_order_is_another_result(tmp_path):
    run, _ = runs(tar(tmp_path / "1", {"a": b"x", "b": b"y"}), tar(tmp_path / "2", {"b": b"y", "a": b"x"}))
    with pytest.raises(LockError, match="in another order"):
        settled(run, None, "step")


@pytest.fixture
def nix(monkeypatch, tmp_path):
    """Nix that refuses every unknown hash: what it is asked, and whether it keeps what was made."""

    class Nix:
        made = hashlib.sha256(b"made").hexdigest()
        keeps = True
        held = ()

        def __init__(self):
            self.asked = []

        def build(self, arguments, view, folder):
            given = dict(zip(arguments[3::3], arguments[4::3], strict=False))
            self.asked.append(given)
            if given["sha256"] != self.made:
                raise OtherHashError("whatever Nix says", "r.tar", self.made)
            Path(arguments[-1]).symlink_to(store.file_path(self.made, "r.tar"))

    fake = Nix()
    monkeypatch.setattr(twice, "run_build", fake.build)
    monkeypatch.setattr(store, "missing", lambda paths: set() if fake.keeps else set(paths))
    monkeypatch.setattr(store, "hold", lambda path, link: None)
    fake.step = ExportedStep(tmp_path, "x86_64-linux", "post-build", tmp_path, None)
    return fake


def test_what_nix_made_is_taken_where_it_keeps_it(nix):
    assert make(nix.step, "r.tar") == Path(store.file_path(nix.made, "r.tar"))
    assert [given["sha256"] for given in nix.asked] == [""]
    assert nix.asked[0]["again"] == ""


def test_and_made_once_more_where_it_does_not(nix):
    nix.keeps = False
    assert make(nix.step, "r.tar", again=True) == Path(store.file_path(nix.made, "r.tar"))
    assert [given["sha256"] for given in nix.asked] == ["", nix.made]
    assert {given["again"] for given in nix.asked} == {"again"}


def test_another_result_than_the_recorded_one_is_an_error_of_its_own(nix):
    with pytest.raises(MismatchError) as caught:
        make(nix.step, "r.tar", sha256="0" * 64)
    assert caught.value.made == nix.made


@pytest.mark.parametrize("problem", [BuildError("no"), OtherHashError("no", "six.whl", "0" * 64)])
def test_any_other_failure_stays_what_it_is(nix, monkeypatch, problem):
    def fail(*_arguments):
        raise problem

    monkeypatch.setattr(twice, "run_build", fail)
    with pytest.raises(BuildError) as caught:
        make(nix.step, "r.tar")
    assert caught.value is problem
