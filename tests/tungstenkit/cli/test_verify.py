"""What `verify` and `diff` print: a line for what is proved, and of what differs each thing by its name."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tungstenkit.cli.main import command_line
from tungstenkit.prove import diff, verify
from tungstenkit.prove.comparison import Difference, FileDifference, LayerDifference
from tungstenkit.prove.diff import Packages, Side, Told
from tungstenkit.prove.makers import Maker
from tungstenkit.prove.verify import Verdict

OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")
SAME = Difference({}, (), ())
PROVED = Verdict("REF", OLD, "x86_64-linux", OLD, NEW, Maker("0.2.0"), 82, 49, 95, SAME)
CHANGED = Difference(
    {"label x": ("1", None)},
    (
        LayerDifference(
            2,
            2,
            "zlib 1",
            (
                FileDifference(
                    "/a", ("content", "mode"), ("-old", "+new", "mode 0644 and 0755"), "zlib, zlib_1.deb"
                ),
                FileDifference("/b", ("missing",), (), "zlib"),
                FileDifference("/c\x1b[2J\n", ("added",), (), ""),
            ),
            7,
        ),
        LayerDifference(None, 4, "wheels"),
        LayerDifference(5, 5, "model"),
    ),
    (),
)


@pytest.fixture
def run(monkeypatch):
    """Runs a command of which the work is what a test says it has come to."""

    def run(*line, found):
        monkeypatch.setattr(verify, "verify", lambda *_args, **_options: found)
        monkeypatch.setattr(diff, "diff", lambda *_args, **_options: found)
        done = CliRunner().invoke(command_line(), line)
        return done.exit_code, done.stdout.splitlines()

    return run


def test_what_is_proved_takes_one_line(run):
    status, (line,) = run("verify", "REF", found=PROVED)
    assert status == 0
    assert line.startswith(
        f"REF@{OLD} is proved: tungsten 0.2.0 builds it again from its export and 82 inputs"
    )
    assert line.endswith("layer by layer the same")


def test_what_an_engine_has_done_is_said(run):
    _, (line,) = run("verify", "REF", found=replace(PROVED, difference=Difference({}, (), (1, 3))))
    assert line.endswith("the same (an engine has packed layers 1, 3 anew: what is in them is the same)")
    _, (line,) = run("verify", "REF", found=replace(PROVED, digest=NEW))
    assert line.endswith(f"the same (an engine has written its manifest anew, which was {OLD})")


def test_what_is_nobody_s_has_a_status_of_its_own(run):
    status, (line,) = run("verify", "REF", found=replace(PROVED, maker=Maker(None, ("nix", "server"))))
    assert status == 5
    assert "rebuilds, and is not proved" in line
    assert "nix, server of its export are of no tungsten that this one knows" in line


def test_each_difference_is_named_and_is_text(run):
    status, lines = run("verify", "REF", found=replace(PROVED, rebuilt=NEW, difference=CHANGED))
    assert (status, lines) == (
        1,
        [
            f"REF@{OLD} differs from what its export builds, {NEW}:",
            'config, label x: "1" in the image, nothing in what was built',
            "layer 2 (zlib 1):",
            "  /a: content, mode; of zlib, zlib_1.deb",
            "    -old",
            "    +new",
            "    mode 0644 and 0755",
            "  /b: only in the image; of zlib",
            "  /c\\x1b[2J\\n: only in what was built",
            "  and 7 more files",
            "only layer 4 of what was built (wheels):",
            "layer 5 (model):",
            "  its files are the same; their order differs, or some stand there twice",
        ],
    )


def test_a_verdict_is_told_to_programs(run):
    status, lines = run("verify", "REF", "--json", found=replace(PROVED, difference=CHANGED))
    told = json.loads("\n".join(lines))
    assert status == 1
    assert (told["verdict"], told["config"], told["inputs"]) == (
        "differs",
        {"label x": ["1", None]},
        {"files": 82, "size": 49},
    )
    assert told["layers"][0]["files"][0]["differs-in"] == ["content", "mode"]


def test_two_images_are_told_apart(run):
    one = Side("one", OLD, "x86_64-linux", 2_000_000, 3)
    other = Side("other", NEW, None, 3_000_000, 4)
    packages = (Packages("numpy", ("1",), ("2",)), Packages("zlib", (), ("1", "2")))
    found = Told(one, other, 2, 1_000_000, packages, replace(CHANGED, repacked=(1,)))
    status, lines = run("diff", "one:1", "other:1", found=found)
    assert status == 0
    assert lines[:6] == [
        f"A one@{OLD}, x86_64-linux: 3 layers, 2.0 MB",
        f"B other@{NEW}, of an unknown platform: 4 layers, 3.0 MB",
        "2 layers are in both, 1.0 MB of A's 2.0 MB",
        "numpy: 1 -> 2",
        "zlib: not there -> 1 and 2",
        'config, label x: "1" in A, nothing in B',
    ]
    assert lines[-1] == "layers 1 are packed in another way"
    _, lines = run("diff", "one:1", "other:1", "--json", found=found)
    told = json.loads("\n".join(lines))
    assert told["packages"][0] == {"name": "numpy", "first": ["1"], "second": ["2"]}
    assert told["shared"] == {"layers": 2, "size": 1_000_000}


def test_the_same_image_and_the_same_content_are_told(run):
    one = Side("one", OLD, "x86_64-linux", 1, 1)
    _, lines = run("diff", "a:1", "b:1", found=Told(one, one, 1, 1, (), SAME))
    assert lines[-1] == "they are the same image"
    _, lines = run("diff", "a:1", "b:1", found=Told(one, replace(one, digest=NEW), 1, 1, (), SAME))
    assert lines[-1] == "only their manifests differ"
