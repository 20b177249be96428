"""The examples of this repository in a browser, on the real server: what a newcomer does first."""

import json
from contextlib import contextmanager
from pathlib import Path

from tests.server.conftest import running_server
from tungstenkit.spec.read import read_spec

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def served(name, folder):
    spec = json.loads(read_spec(EXAMPLES / name).to_json())
    model = (EXAMPLES / name / "tungsten_model.py").read_text()
    with running_server(folder, model=model, spec=spec) as server:
        yield server.url


def test_blur_gives_a_picture(page, tmp_path):
    with served("blur", tmp_path) as url:
        page.open(url)
        page.field("Image").send_keys(str(EXAMPLES / "picture.jpg"))
        size = page.natural_size(".drop-zone img")
        page.run()
        page.wait_status("Done")
        assert page.natural_size("#output img") == size


def test_detection_gives_its_drawing_and_a_table_with_boxes_over_the_picture(page, tmp_path):
    with served("detection", tmp_path) as url:
        page.open(url)
        page.one("#examples button").click()
        size = page.natural_size(".drop-zone img")
        page.run()
        page.wait_status("Done")
        assert page.natural_size("#output figure img") == size
        panel = page.show_tab("Output")
        page.wait(lambda: len(page.all(".boxes rect")) == 6, "the boxes")
        labels = [row.text.split()[0] for row in panel.find_elements("css selector", "tbody tr")]
        assert labels == ["purple", "red", "blue", "orange", "green", "black"]
        assert page.show_tab("Logs").text.endswith("6 found")
