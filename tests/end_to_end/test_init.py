"""What `tungsten init` writes is built and checked as it is."""

import json

from tests.end_to_end.harness import build, succeed, tungsten
from tests.frozen.take import PYTHON


def test_a_template_becomes_an_image_that_passes_its_check(tmp_path):
    folder = tmp_path / "Model No. 1"
    succeed("init", "-t", "image", folder)
    succeed("lock", folder, "--python", PYTHON)
    image = build(folder, "--no-load")
    assert image.reference == "model-no.1:latest"
    done = tungsten("check", folder, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [trial["kind"] for trial in report["trials"]].count("example") == 2
    assert [trial for trial in report["trials"] if trial["note"] or not trial["ok"]] == []


def test_an_image_answers_piece_by_piece(tmp_path):
    folder = tmp_path / "writer"
    succeed("init", "-t", "stream", folder)
    succeed("lock", folder, "--python", PYTHON)
    done = tungsten("check", folder, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads((folder / ".tungsten" / "export" / "spec.json").read_text())["stream"] is True
    assert [trial["ok"] for trial in report["trials"] if trial["kind"] == "stream"] == [True]
    whole = next(trial["output"][0] for trial in report["trials"] if trial["kind"] == "example")
    said = succeed("predict", folder, "--no-engine", "--stream", "-i", "prompt=The keeper of")
    text, _, rest = said.partition("\n")
    assert text == whole["text"]
    assert json.loads(rest) == {"stopped_at": whole["stopped_at"]}
