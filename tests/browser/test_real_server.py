"""The demo page on the real server with a real model: the two agree about everything that travels between them."""

import json

import pytest

from tests.browser.conftest import DEADLINE, png
from tests.server.conftest import Gate, running_server
from tungstenkit.spec.read import read_spec

MODEL = """
import time
from typing import List
from PIL import ImageFilter
from tungstenkit import BaseIO, Image, MaskedImage, Option, define_model

class Input(BaseIO):
    picture: MaskedImage
    mode: str = Option("blur", choices=["blur", "wait", "fail"])

class Output(BaseIO):
    image: Image

class Box(BaseIO):
    label: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int

class DemoOutput(BaseIO):
    painted: List[Box]

@define_model(input=Input, output=Output, demo_output=DemoOutput)
class Model:
    def predict(self, inputs):
        raise NotImplementedError

    def predict_demo(self, inputs):
        print("mode", inputs[0].mode, flush=True)
        while inputs[0].mode == "wait":
            time.sleep(0.01)
        if inputs[0].mode == "fail":
            raise ValueError("asked to fail")
        picture = inputs[0].picture
        image = picture.image.to_pil_image().filter(ImageFilter.GaussianBlur(2))
        box = picture.mask.to_pil_image("L").getbbox()
        found = Box(label="mask", xmin=box[0], ymin=box[1], xmax=box[2], ymax=box[3])
        return [Output(image=Image.from_pil_image(image))], [DemoOutput(painted=[found])]
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "tungsten_model.py").write_text(MODEL)
    spec = json.loads(read_spec(folder).to_json())
    with running_server(tmp_path_factory.mktemp("served"), model=MODEL, spec=spec) as server:
        yield server.url


@pytest.fixture
def filled(page, url, tmp_path):
    """The page with a picture whose middle is painted."""
    path = tmp_path / "picture.png"
    path.write_bytes(png(200, 100))
    page.open(url)
    page.field("Picture").send_keys(str(path))
    page.wait(lambda: page.one(".stage.ready canvas"), "the canvas").send_keys(" ")
    page.one(".options summary").click()
    return page


@pytest.mark.parametrize("width", [360, 1280])
def test_the_documentation_fits_every_width(page, url, width):
    page.driver.set_window_size(width, 800)
    page.driver.get(f"{url}/docs")
    # The browser makes no window narrower than 500 pixels.
    page.driver.execute_script("document.body.style.width = `${arguments[0] - 32}px`", width)
    script = "return [...document.querySelectorAll('body, body *')].map((one) => one.getBoundingClientRect().right)"
    assert (
        max(page.driver.execute_script(script))
        <= (width if width < 500 else page.driver.execute_script("return innerWidth")) + 1
    )
    assert "picture.image=@image.png" in page.driver.find_element("css selector", "body").text


def test_boxes_logs_and_json_of_a_real_run(filled):
    filled.run()
    filled.wait_status("Done")
    rectangle = filled.wait(lambda: filled.one(".boxes rect"), "the box")
    middle = float(rectangle.get_attribute("x")) + float(rectangle.get_attribute("width")) / 2
    assert middle == pytest.approx(100, abs=1)
    shown = filled.show_tab("JSON").find_element("css selector", "pre").text
    assert shown.startswith('{\n  "image": "data:image/png;base64,')
    assert filled.show_tab("Logs").find_element("css selector", ".logs").text == "mode blur"


def test_a_real_run_is_canceled_while_it_runs(filled):
    filled.field("Mode").send_keys("wait")
    filled.run()
    filled.wait(lambda: filled.one("#output .logs").text == "mode wait", "the log")
    filled.one("#cancel").click()
    filled.wait_status("Canceled")
    filled.field("Mode").send_keys("blur")
    filled.run()
    filled.wait_status("Done")


def test_a_real_failure_is_told(filled):
    filled.field("Mode").send_keys("fail")
    filled.run()
    filled.wait_status("Failed")
    assert filled.one("#output .failure").text == "ValueError: asked to fail"


STREAM = """
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    gates: str

class Output(BaseIO):
    text: str
    words: int = 0

@define_model(input=Input, output=Output)
class Model:
    def predict(self, inputs):
        for number, gate in enumerate(inputs[0].gates.split()):
            yield [Output(text=f"word{number} ", words=number)]
            with open(gate) as fifo:  # until the test has opened it, and closed it
                fifo.read()
        yield [Output(text="end")]
"""


@pytest.fixture(scope="module")
def streaming(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming")
    (folder / "tungsten_model.py").write_text(STREAM)
    spec = json.loads(read_spec(folder).to_json())
    with running_server(tmp_path_factory.mktemp("streams"), model=STREAM, spec=spec) as server:
        yield server


def test_text_grows_while_it_comes(page, streaming, tmp_path):
    gates = [Gate(tmp_path / name) for name in ("first", "second")]
    page.open(streaming.url)
    page.fill("Gates", " ".join(map(str, gates)))
    page.run()
    page.wait(lambda: page.one(".growing .prose").text.strip() == "word0", "the first piece")
    assert page.status() == "Running"
    with gates[0].open():
        pass
    page.wait(lambda: page.one(".growing .prose").text.strip() == "word0 word1", "the second")
    with gates[1].open():
        pass
    page.wait_status("Done")
    assert "word0 word1 end" in page.one("#output").text
    assert page.all(".growing") == []


FOLLOWED = """
    const [path, done] = arguments;
    const source = new EventSource(path);
    const found = [];
    source.addEventListener("piece", (event) => found.push(JSON.parse(event.data).output.text));
    source.addEventListener("prediction", (event) => {
      source.close();
      done([found.join(""), JSON.parse(event.data).outputs[0].text]);
    });
"""


def test_a_browsers_own_events_follow_a_prediction(page, streaming, tmp_path):
    gate = Gate(tmp_path / "gate")
    page.open(streaming.url)
    answer = streaming.post([{"gates": str(gate)}], "/predictions")
    with gate.open():
        pass
    page.driver.set_script_timeout(DEADLINE)
    path = f"/predictions/{answer.json()['prediction_id']}"
    assert page.driver.execute_async_script(FOLLOWED, path) in (
        ["word0 end", "word0 end"],
        ["", "word0 end"],  # it was done before the browser has asked
    )
