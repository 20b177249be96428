"""A model served from its image's own root, without podman or docker: it answers as in a container, and ends so."""

import json
import os
import signal
import subprocess
import threading
import urllib.request

from tests.end_to_end.harness import TUNGSTEN, succeed, tungsten

MODEL = """
import os
import sys
import time

from tungstenkit import BaseIO, define_model


class Input(BaseIO):
    seconds: float = 0.0


class Output(BaseIO):
    uid: int
    folder: str
    setting: str


@define_model(input=Input, output=Output)
class Model:
    def predict(self, inputs):
        print("predicting for", inputs[0].seconds, file=sys.stderr, flush=True)
        time.sleep(inputs[0].seconds)
        open("/app/here", "w").close()
        setting = os.environ["TUNGSTEN_MAX_PENDING"]
        return [Output(uid=os.getuid(), folder=os.getcwd(), setting=setting)] * len(inputs)
"""


def test_a_folder_is_served_predicted_and_ended_without_an_engine(copy_of):
    folder = copy_of("blur")
    (folder / "tungsten_model.py").write_text(MODEL)
    succeed("lock", folder)
    # As where there is neither podman nor docker.
    without = {"TUNGSTEN_MAX_PENDING": "77"}
    answer = json.loads(succeed("predict", folder, "--no-engine", env=without))
    assert answer == {"uid": 65532, "folder": "/app", "setting": "77"}
    assert not (folder / "here").exists()

    with subprocess.Popen(
        [*TUNGSTEN, "serve", str(folder), "--no-engine", "--port=0"],
        env={**os.environ, **without},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().strip()
        answers = []
        asked = threading.Thread(target=lambda: answers.append(post(f"{url}/predict", [{"seconds": 1.0}])))
        asked.start()
        # It is interrupted while it works: what was accepted is answered first.
        said = iter(process.stderr.readline, "")
        assert any("predicting for 1.0" in line for line in said)
        process.send_signal(signal.SIGINT)
        asked.join()
        rest = process.stderr.read()
    assert answers[0]["status"] == "success"
    assert process.returncode == 0
    assert "unanswered=0" in rest


def post(url, value):
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_an_image_by_its_name_wants_an_engine():
    done = tungsten("serve", "nothing-of-this-name", "--no-engine")
    assert done.returncode == 1
    assert "there is no folder 'nothing-of-this-name'" in done.stderr
    assert "hint: name the model's folder" in done.stderr
