"""Which wheel of a release is taken, and what is refused; uv itself is replaced but for the marked tests."""

import errno

import pytest

from tests.tungstenkit.resolve.package_index import serve, view, wheel
from tungstenkit.fetch.index_pages import IndexFile
from tungstenkit.platforms import Target
from tungstenkit.resolve import wheels as solving
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import FetchError, ResolveError

TARGET = Target("x86_64-linux", "bookworm", "3.11")


def package(name, version, *tags):
    files = [f"{name}-{version}-{tag}.whl" for tag in tags]
    entry = {"size": 1, "hashes": {"sha256": "0" * 64}}
    return {
        "name": name,
        "version": version,
        "wheels": [{"url": f"https://index.invalid/a%2Bb/{f}", **entry} for f in files],
    }


@pytest.fixture
def solve(monkeypatch):
    """Resolves with a given answer of uv's."""

    def solve(*packages, python="3.11", release="bookworm", system="x86_64-linux", requirements=("x",)):
        monkeypatch.setattr(solving, "_compile", lambda *arguments: list(packages))
        offered = view("", Target(system, release, python))
        names = [wheel["url"].rpartition("/")[2] for one in packages for wheel in one["wheels"]]
        offered.index.files_of = lambda project: [
            IndexFile(name, f"https://index.invalid/{name}", sha256="0" * 64, size=1) for name in names
        ]
        monkeypatch.setattr(offered.index, "metadata", lambda file: "")
        return resolve_wheels(list(requirements), offered, where="python_packages")

    return solve


@pytest.mark.parametrize(
    ("tags", "chosen"),
    [
        (["py3-none-any", "cp311-cp311-manylinux_2_17_x86_64"], "cp311-cp311-manylinux_2_17_x86_64"),
        (["cp39-abi3-manylinux_2_28_x86_64", "py3-none-any"], "cp39-abi3-manylinux_2_28_x86_64"),
        (
            ["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_34_x86_64"],
            "cp311-cp311-manylinux_2_34_x86_64",
        ),
        (
            ["cp311-cp311-manylinux_2_38_x86_64", "cp311-cp311-manylinux2014_x86_64"],
            "cp311-cp311-manylinux2014_x86_64",
        ),
        (["cp311-cp311-manylinux_2_17_aarch64", "py2.py3-none-any"], "py2.py3-none-any"),
        (["cp311-cp311-musllinux_1_2_x86_64", "cp311-cp311-linux_x86_64"], "cp311-cp311-linux_x86_64"),
    ],
)
def test_the_most_specific_wheel_that_fits_is_taken(solve, tags, chosen):
    """PEP 425's order, for CPython 3.11 with glibc 2.36."""
    (wheel,) = solve(package("x", "1.0", *tags))
    assert wheel.file == f"x-1.0-{chosen}.whl"


def test_a_newer_c_library_allows_newer_wheels(solve):
    (wheel,) = solve(
        package("x", "1.0", "cp313-cp313-manylinux_2_38_x86_64", "py3-none-any"),
        python="3.13",
        release="trixie",
    )
    assert "manylinux_2_38" in wheel.file


def test_another_processor_takes_its_own_wheels(solve):
    tags = ["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_aarch64", "py3-none-any"]
    (wheel,) = solve(package("x", "1.0", *tags), system="aarch64-linux")
    assert wheel.file == "x-1.0-cp311-cp311-manylinux2014_aarch64.whl"


def test_no_url_is_kept(solve):
    (wheel,) = solve(package("x", "1.0", "py3-none-any"))
    assert "index.invalid" not in wheel.to_json()


def test_a_release_without_a_fitting_wheel_is_refused(solve):
    with pytest.raises(ResolveError, match=r"x 1\.0 has no wheel"):
        solve(package("x", "1.0", "cp311-cp311-win_amd64"))


def test_the_other_tungstenkit_is_refused(solve):
    """The index's `tungstenkit` is another product; a dependency must not bring it in."""
    with pytest.raises(ResolveError, match="another product"):
        solve(package("tungstenkit", "0.2", "py3-none-any"))


@pytest.mark.parametrize("requirement", ["pydantic<2", "pydantic==1.10.12", "Pydantic~=1.9"])
def test_pydantic_1_is_refused_by_name(solve, requirement):
    with pytest.raises(ResolveError, match="excludes pydantic 2"):
        solve(requirements=[requirement])


@pytest.mark.parametrize(
    "requirement", ["pydantic", "pydantic<3", "pydantic==2.7.4", "pydantic>=1.10", "pydantic!=2.0"]
)
def test_pydantic_2_is_fine(solve, requirement):
    assert solve(requirements=[requirement]) == ()


def test_a_full_disk_is_no_conflict(monkeypatch):
    said = "error: Failed to write to `/x`\n  cause: No space left on device (os error 28)"
    monkeypatch.setattr(solving, "_run", lambda command, environment: _Uv(said))
    with pytest.raises(FetchError, match="No space left on device") as caught:
        resolve_wheels(["six"], view("", TARGET), where="python_packages")
    assert "TMPDIR" in caught.value.hint


def test_an_index_that_does_not_answer_is_no_conflict():
    with pytest.raises(FetchError, match="no connection") as caught:
        resolve_wheels(["six"], view("http://127.0.0.1:9/simple", TARGET), where="python_packages")
    assert caught.value.where == "http://127.0.0.1:9/simple/six/"


@pytest.mark.parametrize(
    "problem",
    [OSError(errno.ENOSPC, "No space left on device"), ZeroDivisionError("a defect of ours")],
    ids=repr,
)
def test_what_fails_here_while_uv_asks_is_told_as_it_is(problem):
    def fail(*arguments):
        raise problem

    offered = view("", TARGET)
    offered.page = fail
    with pytest.raises(type(problem)) as caught:
        resolve_wheels(["six"], offered, where="python_packages")
    assert caught.value is problem


class _Uv:
    """Stands for a run of uv that finds nothing, and says so."""

    returncode = 1

    def __init__(self, said):
        self.stderr = said


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            (
                "hint: The `--python-version` value (>=3.9) includes Python versions that are not supported by your "
                "dependencies. Consider using a higher `--python-version` value.\n"
                "hint: Wheels are required for `x` because building from source is disabled for all packages (i.e., "
                "with `--no-build`)"
            ),
            "Python >=3.9 includes",
        ),
    ],
)
def test_uvs_advice_becomes_ours(monkeypatch, said, advice):
    monkeypatch.setattr(solving, "_run", lambda command, environment: _Uv(said))
    with pytest.raises(ResolveError) as caught:
        resolve_wheels(["x"], view("", TARGET), where="python_packages")
    assert advice in str(caught.value)
    assert "`--" not in str(caught.value)


@pytest.fixture(scope="module")
def real():
    """Resolves with uv and an index of `six` alone."""
    with serve([wheel("six", version) for version in ("1.15.0", "1.16.0", "1.17.0")]) as url:
        yield lambda requirements, **options: resolve_wheels(
            requirements,
            view(url, Target("x86_64-linux", "trixie", "3.13")),
            where="python_packages",
            **options,
        )


def test_a_pin_that_fits_is_kept(real):
    newest = real(["six"])
    (old,) = (wheel.model_copy(update={"version": "1.16.0"}) for wheel in newest)
    assert [wheel.version for wheel in real(["six"], prefer=[old])] == ["1.16.0"]
    assert [wheel.version for wheel in real(["six>=1.17"], prefer=[old])] == ["1.17.0"]


def test_a_conflict_is_explained(real):
    with pytest.raises(ResolveError, match=r"six==1\.15\.0 and six==1\.16\.0") as caught:
        real(["six==1.15.0", "six==1.16.0"])
    assert caught.value.where == "python_packages"
    assert "loosen one of the requirements" in caught.value.hint


def test_for_a_version_that_there_is_not_the_newest_are_named(real):
    with pytest.raises(ResolveError) as caught:
        real(["six==2.99"])
    assert caught.value.hint == "there is no six==2.99; the newest are 1.17.0, 1.16.0, 1.15.0"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("numpyy", "numpy"),
        ("sklearn", "scikit-learn"),
        ("cv2", "opencv-python-headless"),
        ("Transformer", "transformers"),
        ("tourch", "torch"),
        ("no-such-project-of-tungsten", None),
        ("my-lab", None),
    ],
)
def test_a_name_that_is_near_is_told(name, meant):
    assert solving.near_project(name) == meant
    said = f"  × No solution\n  ╰─▶ Because {name} was not found in the package registry and you require {name}, we"
    assert solving._hint(said) == (
        f"did you mean {meant!r}?" if meant else "check the spelling of the package's name"
    )


def test_an_unknown_project_is_named(real):
    with pytest.raises(ResolveError, match="no-such-project-of-tungsten") as caught:
        real(["no-such-project-of-tungsten"])
    assert "spelling" in caught.value.hint


def test_uv_asks_about_this_python_once(monkeypatch):
    """And keeps nothing of an index from one solve to the next: another may have the same address."""
    run, said = solving._run, []

    def told(command, environment):
        done = run([one for one in command if one != "--quiet"], environment | {"RUST_LOG": "uv=trace"})
        said.append("Querying interpreter executable at" in done.stderr)
        return done

    monkeypatch.setattr(solving, "_run", told)
    monkeypatch.setattr(solving, "_of_python", {})
    for version in ("1.0", "2.0"):
        with serve([wheel("x", version)]) as url:
            (chosen,) = resolve_wheels(["x"], view(url, TARGET), where="python_packages")
        assert chosen.version == version
    assert said == [True, False]
    assert {name.partition("-")[0] for name in solving._of_python} == {"interpreter"}
