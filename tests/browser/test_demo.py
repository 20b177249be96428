"""The demo page in a browser: what a user fills in is what is sent, and what a model gives is what is seen."""

import io
import json

import pytest
from PIL import Image

import tungstenkit
from tests.browser.conftest import data_uri, from_data_uri, png
from tests.server.demo_api import succeeded
from tungstenkit import MaskedImage
from tungstenkit.sdk.suffixes import MEDIA_TYPES, suffix_of_type


def file(kind, **more):
    return {"type": "string", "format": "uri", "x-file-type": kind, **more}


def io_schema(required, options=None):
    options = {name: {**field, "x-option": True} for name, field in (options or {}).items()}
    schema = {"type": "object", "properties": {**required, **options}}
    return {**schema, "required": list(required)} if required else schema


MASKED = {**io_schema({"image": file("image"), "mask": file("image")}), "x-file-type": "masked_image"}
BLUR_IN = io_schema(
    {"image": file("image", description="The picture to blur")},
    {"radius": {"type": "number", "default": 2.0, "minimum": 0, "maximum": 100}},
)
BLUR_OUT = io_schema({"image": file("image")})
TEXT = io_schema({"text": {"type": "string"}})


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(png(64, 40))
    return path


def echo(value):
    return [succeeded(value)]


# The form


def test_a_picture_goes_in_and_a_picture_comes_out(page, serve, picture):
    blurred = data_uri(png(30, 20))
    steps = [{"status": "pending"}, {"status": "running"}, succeeded({"image": blurred})]
    api = serve(BLUR_IN, BLUR_OUT, lambda _: steps)
    page.open(api.url)
    page.field("Image").send_keys(str(picture))
    assert page.natural_size(".drop-zone img") == (64, 40)
    page.run()
    page.wait_status("Done")
    assert page.natural_size("#output img") == (30, 20)
    assert api.inputs == [{"image": data_uri(picture.read_bytes()), "radius": 2}]


def test_every_kind_of_field_gives_its_json(page, serve, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0\1")
    (tmp_path / "empty.bin").write_bytes(b"")
    schema = io_schema(
        {
            "text": {"type": "string"},
            "count": {"type": "integer"},
            "style": {"type": "string", "enum": ["oil", "ink"], "choices": ["oil", "ink"]},
            "size": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "number"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "point": io_schema({"x": {"type": "number"}}, {"name": {"type": "string", "default": "p"}}),
            "any": {},
            "data": file("binary"),
            "nothing": file("binary"),
        },
        {
            "flag": {"type": "boolean", "default": True},
            "level": {"type": "integer", "enum": [1, 2], "choices": [1, 2], "default": 2},
            "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "weights": {
                "type": "object",
                "additionalProperties": {"type": "number"},
                "default": {"face": 1.5},
            },
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}], "default": "x"},
            "maybe": {"anyOf": [io_schema({"y": {"type": "number"}}), {"type": "null"}], "default": None},
            "sure": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None},
            "factory": {"type": "array", "items": {"type": "string"}},
            "empty": {"type": "string", "default": ""},
        },
    )
    api = serve(schema, TEXT, lambda _: [succeeded({"text": "ok"})])
    page.open(api.url)
    page.fill("Text", "two\nlines")
    page.fill("Count", "-3")
    page.field("Style").send_keys("ink")
    page.fill("Part 1", "5")
    page.fill("Part 2", "0.25")
    page.fill("Item 1", "a")
    page.one("[aria-label='Add to Tags']").click()
    page.focused().send_keys("b")
    page.fill("X", "1e3")
    page.fill("Any", '{"a": [1, null]}')
    page.field("Data").send_keys(str(tmp_path / "a.bin"))
    page.field("Nothing").send_keys(str(tmp_path / "empty.bin"))
    page.one(".options summary").click()
    page.one("[aria-label='Add to Weights']").click()
    page.focused().send_keys("hand", "\t", "2")
    page.run()
    page.wait_status("Done")
    assert api.inputs == [
        {
            "text": "two\nlines", "count": -3, "style": "ink", "size": [5, 0.25], "tags": ["a", "b"],
            "point": {"x": 1000, "name": "p"}, "any": {"a": [1, None]},
            "data": "data:application/octet-stream;base64,AAE=", "nothing": "data:application/octet-stream;base64,",
            "flag": True, "level": 2, "seed": None, "weights": {"face": 1.5, "hand": 2}, "either": "x", "maybe": None,
            "sure": None, "empty": "",
        }
    ]  # fmt: skip


def test_fields_are_in_their_order_and_options_are_folded(page, serve):
    text = {"type": "string"}
    option = {**text, "default": "", "x-option": True}
    perhaps = {"anyOf": [text, {"type": "null"}]}
    inner = {"type": "object", "properties": {"q": option, "p": text}, "required": ["p"]}
    fields = {"z": text, "a": option, "o": perhaps, "b": inner, "A2": option}
    page.open(serve({"type": "object", "properties": fields, "required": ["z", "b"]}, TEXT, echo).url)
    shown = [label.text for label in page.all("#fields .label") if label.is_displayed()]
    assert shown == ["Z *", "O", "Q", "P *"]
    page.one(".options summary").click()
    assert [label.text for label in page.all(".options .label")] == ["A", "A2"]


BIG = 2**53 + 1
HUGE = 2**63 - 1


def test_whole_numbers_are_exact(page, serve):
    whole = {"type": "integer"}
    schema = io_schema(
        {
            "typed": {**whole, "minimum": -(2**63), "maximum": 2**63},
            "choice": {**whole, "enum": [BIG, HUGE], "choices": [BIG, HUGE]},
            "any": {},
            "even": {**whole, "multipleOf": 2},
        },
        {"standard": {**whole, "default": BIG}},
    )
    output = io_schema({"typed": whole, "list": {"type": "array", "items": whole}})
    answer = {"typed": BIG, "list": [BIG, HUGE]}
    example = {"typed": HUGE, "choice": BIG, "any": [BIG], "even": 2}
    api = serve(schema, output, lambda _: [succeeded(answer)], examples=[example])
    page.open(api.url)
    page.one("#examples button").click()
    assert page.field("Typed").get_property("value") == str(HUGE)
    page.run()
    page.wait_status("Done")
    page.fill("Typed", str(BIG))
    page.field("Choice").send_keys(str(HUGE))
    page.fill("Any", f'{{"a": {BIG}}}')
    page.fill("Even", str(HUGE))
    page.run()
    page.wait(lambda: page.error("Even") == "This must be a multiple of 2.", "the error")
    page.fill("Even", str(2**63))
    page.fill("Typed", str(2**63 + 1))
    page.run()
    page.wait(lambda: page.error("Typed") == f"This must be at most {2**63}.", "the error")
    page.fill("Typed", str(BIG))
    page.one("#curl summary").click()
    page.wait(lambda: f'"typed": {BIG}' in page.one("#curl-text").text, "the command")
    page.run()
    page.wait(lambda: len(api.inputs) == 2 and page.status() == "Done", "the run")
    assert api.inputs == [
        {**example, "standard": BIG},
        {"typed": BIG, "choice": HUGE, "any": {"a": BIG}, "even": 2**63, "standard": BIG},
    ]
    assert [one.text for one in page.all("#output .scalar")] == [str(BIG)]
    assert [one.text for one in page.all("#output .chips li")] == [str(BIG), str(HUGE)]
    assert str(HUGE) in page.show_tab("JSON").text


def test_a_file_keeps_its_suffix(page, serve, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"abc")
    (tmp_path / "a.madeup").write_bytes(b"abc")
    saved = {
        "x": "data:application/octet-stream;name=file.npz;base64,AAAA",
        "y": "data:audio/wav;base64,AAAA",
    }
    schema = io_schema({"x": file("binary"), "y": file("audio")})
    api = serve(
        io_schema({"scan": file("binary"), "table": file("binary")}), schema, lambda _: [succeeded(saved)]
    )
    page.open(api.url)
    page.field("Scan").send_keys(str(tmp_path / "scan.nii.gz"))
    page.field("Table").send_keys(str(tmp_path / "a.madeup"))
    page.run()
    page.wait_status("Done")
    assert api.inputs == [
        {
            "scan": "data:application/gzip;name=file.nii.gz;base64,YWJj",
            "table": "data:application/octet-stream;name=file.madeup;base64,YWJj",
        }
    ]
    names = [link.get_attribute("download") for link in page.all("#output a.download")]
    assert names == ["x.npz", "y.wav"]


def test_files_are_called_as_the_server_calls_them(page, serve):
    page.open(serve(TEXT, TEXT, echo).url)
    script = """const [types, done] = arguments;
        import("/static/datauri.js").then(({ fileName }) => done(types.map((type) => fileName("", type))))"""
    types = sorted(set(MEDIA_TYPES.values()))
    assert page.driver.execute_async_script(script, types) == [suffix_of_type(one) for one in types]


def test_options_are_open_where_there_is_nothing_else(page, serve):
    api = serve(io_schema({}, {"a": {"type": "string", "default": "x"}}), TEXT, echo)
    page.open(api.url)
    assert page.field("A").is_displayed()


def test_a_slider_and_its_number_are_one_value(page, serve):
    schema = io_schema({}, {"n": {"type": "integer", "minimum": 0, "maximum": 10, "default": 3}})
    page.open(serve(schema, TEXT, echo).url)
    slider = page.one("input[type=range]")
    assert slider.get_property("value") == "3"
    slider.send_keys("\ue014\ue014")  # right, twice
    assert page.field("N").get_property("value") == "5"
    page.fill("N", "9")
    assert slider.get_property("value") == "9"


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ({"type": "string"}, "", "This field is required."),
        ({"type": "integer"}, "1.5", "This must be a whole number."),
        ({"type": "number", "minimum": 1}, "0.5", "This must be at least 1."),
        ({"type": "number", "exclusiveMaximum": 1}, "1", "This must be less than 1."),
        ({"type": "string", "minLength": 3}, "ab", "Write at least 3 characters."),
        ({"type": "string", "maxLength": 1}, "ab", "Write at most 1 character; these are 2."),
        ({"type": "string", "pattern": "^[a-z]+$"}, "A", "This must match ^[a-z]+$"),
        (file("image"), None, "Choose an image."),
        ({}, "{", "This is not JSON"),
    ],
)
def test_what_is_wrong_is_said_at_the_field_before_anything_is_sent(page, serve, field, typed, message):
    api = serve(io_schema({"fine": {"type": "boolean"}, "a": field}), TEXT, echo)
    page.open(api.url)
    if typed is not None:
        page.fill("A", typed)
    page.run()
    page.wait(lambda: message in page.error("A"), message)
    assert page.field("A").get_attribute("aria-invalid") == "true"
    assert page.focused() == page.field("A")
    assert api.inputs == []


def test_a_corrected_field_is_no_longer_wrong(page, serve):
    page.open(serve(TEXT, TEXT, echo).url)
    page.run()
    page.wait(lambda: page.error("Text"), "the message")
    page.fill("Text", "x")
    page.run()
    page.wait_status("Done")
    assert page.error("Text") == ""
    assert page.field("Text").get_attribute("aria-invalid") is None


def test_the_servers_422_is_shown_at_its_field(page, serve):
    point = io_schema({"x": {"type": "number"}})
    points = {"type": "array", "items": point, "default": [{"x": 1}, {"x": 2}]}
    schema = io_schema({"text": {"type": "string"}}, {"points": points})
    api = serve(schema, TEXT, echo)
    page.open(api.url)
    page.fill("Text", "hello")
    detail = [
        {"loc": ["body", 0, "points", 1, "x"], "msg": "two is a bad number", "type": "value_error"},
        {"loc": ["body", 0], "msg": "and a word about all", "type": "value_error"},
    ]
    api.refuse = ({"detail": detail}, 422)
    page.run()
    page.wait(lambda: page.one("#form-notice").text, "the notice")
    assert "And a word about all" in page.one("#form-notice").text
    (wrong,) = [error for error in page.all("#fields .error") if error.text]
    assert wrong.text == "Two is a bad number"
    second = page.all("#fields input[type=number]")[1]
    assert second.get_attribute("aria-describedby").split()[-1] == wrong.get_attribute("id")
    assert page.focused() == second  # inside the options, which are opened for it
    page.run()
    page.wait_status("Done")


def test_a_refusal_says_why_and_when_to_come_again(page, serve):
    api = serve(TEXT, TEXT, echo)
    page.open(api.url)
    page.fill("Text", "x")
    api.refuse = ({"detail": "the model is being set up"}, 503)
    page.run()
    page.wait(lambda: page.one("#form-notice").text, "the notice")
    assert "the model is being set up" in page.one("#form-notice").text
    assert page.one("#run").is_enabled()


def test_reset_gives_the_form_as_it_was(page, serve):
    page.open(serve(io_schema({}, {"a": {"type": "string", "default": "old"}}), TEXT, echo).url)
    page.fill("A", "new")
    page.one("#reset").click()
    assert page.field("A").get_property("value") == "old"


PUT_FILE = """
const [target, kind, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "given.png", { type: "image/png" }));
const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
  : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
document.querySelector(target).dispatchEvent(event);
"""


@pytest.mark.parametrize(("kind", "target"), [("paste", "body"), ("drop", ".drop-zone")])
def test_a_picture_can_be_pasted_and_dropped(page, serve, kind, target):
    api = serve(BLUR_IN, BLUR_OUT, lambda value: [succeeded({"image": value["image"]})])
    page.open(api.url)
    uri = data_uri(png(9, 7))
    page.driver.execute_script(PUT_FILE, target, kind, uri.partition(",")[2])
    assert page.natural_size(".drop-zone img") == (9, 7)
    page.run()
    page.wait_status("Done")
    assert api.inputs[0]["image"] == uri


def test_a_dropped_file_that_no_field_is_for_is_named(page, serve):
    page.open(serve(TEXT, TEXT, echo).url)
    page.driver.execute_script(PUT_FILE, "body", "drop", "eA==")
    assert page.one("#form-notice").text == "given.png was not taken: no field here is for such a file."


def test_a_file_that_comes_beside_its_field_is_taken(page, serve):
    page.open(serve(BLUR_IN, BLUR_OUT, echo).url)
    uri = data_uri(png(9, 7))
    page.driver.execute_script(PUT_FILE, "body", "drop", uri.partition(",")[2])
    assert page.natural_size(".drop-zone img") == (9, 7)


def test_a_file_that_the_server_refuses_is_named(page, serve, picture):
    api = serve(BLUR_IN, BLUR_OUT, echo)
    page.open(api.url)
    page.field("Image").send_keys(str(picture))
    message = "the file has more than 9 bytes"
    api.refuse = ({"detail": [{"loc": ["body", 0, "image"], "msg": message, "type": "file_too_large"}]}, 422)
    page.run()
    page.wait(lambda: page.error("Image"), "the error")
    assert page.error("Image") == "picture.png: The file has more than 9 bytes"
    api.refuse = ({"detail": "the body has more than 9 bytes"}, 413)
    page.run()
    page.wait(lambda: "too large" in page.one("#form-notice").text, "the notice")
    size = picture.stat().st_size
    assert page.one("#form-notice").text.endswith(f"The largest file is picture.png, {size} bytes.")


def test_a_file_of_another_type_is_refused(page, serve, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a picture")
    page.open(serve(BLUR_IN, BLUR_OUT, echo).url)
    page.field("Image").send_keys(str(path))
    assert page.error("Image") == "notes.txt is not an image."


# The mask


def paint(page, moves, tool=None):
    """Draw from the canvas' middle by moves of (x, y) pixels."""
    from selenium.webdriver import ActionChains

    canvas = page.wait(lambda: page.one(".stage.ready canvas"), "the canvas")
    if tool:
        next(button for button in page.all(".tools button") if button.text == tool).click()
    actions = ActionChains(page.driver, duration=20).move_to_element(canvas).click_and_hold()
    for x, y in moves:
        actions.move_by_offset(x, y)
    actions.release().perform()


def test_a_mask_is_a_png_of_the_pictures_size_white_where_it_was_painted(page, serve, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png(1600, 900))
    api = serve(io_schema({"picture": MASKED}), TEXT, lambda _: [succeeded({"text": "ok"})])
    page.open(api.url)
    page.field("Picture").send_keys(str(path))
    paint(page, [(100, 0)])
    page.run()
    page.wait_status("Done")
    sent = api.inputs[0]["picture"]
    assert sent["image"] == data_uri(path.read_bytes())
    mask = from_data_uri(sent["mask"])
    assert (mask.format, mask.size) == ("PNG", (1600, 900))
    grey = mask.convert("L")
    assert grey.getpixel((800, 450)) == 255
    assert grey.getpixel((850, 450)) == 255
    assert grey.getpixel((700, 450)) == grey.getpixel((800, 200)) == 0


def turned_photo(folder):
    """80 by 30 pixels, with a note that they are to be shown turned by a right angle."""
    path = folder / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 30), "teal").save(path, exif=exif)
    return path


def sent_mask(page, api):
    count = len(api.inputs)
    page.run()
    page.wait(lambda: len(api.inputs) > count and page.status() == "Done", "the run")
    return from_data_uri(api.inputs[-1]["picture"]["mask"]).convert("L")


def test_a_mask_can_be_erased_undone_and_cleared(page, serve, picture):
    api = serve(io_schema({"picture": MASKED}), TEXT, lambda _: [succeeded({"text": "ok"})])
    page.open(api.url)
    page.field("Picture").send_keys(str(picture))
    paint(page, [(10, 0)])
    assert sent_mask(page, api).getpixel((32, 20)) == 255
    paint(page, [(10, 0)], tool="Eraser")
    assert sent_mask(page, api).getpixel((32, 20)) == 0
    undo, clear = page.all(".tools button")[-2:]
    undo.click()
    assert sent_mask(page, api).getpixel((32, 20)) == 255
    clear.click()
    assert sent_mask(page, api).getbbox() is None


def test_a_mask_can_be_painted_with_the_keyboard(page, serve, picture):
    api = serve(io_schema({"picture": MASKED}), TEXT, lambda _: [succeeded({"text": "ok"})])
    page.open(api.url)
    page.field("Picture").send_keys(str(picture))
    canvas = page.wait(lambda: page.one(".stage.ready canvas"), "the canvas")
    canvas.send_keys(" ", "\ue014" * 8, " ")
    mask = sent_mask(page, api)
    assert mask.getpixel((32, 20)) == 255
    assert mask.getpixel((41, 20)) == 255


def test_a_photo_is_shown_upright_with_its_boxes(page, serve, tmp_path):
    """As `to_pil_image` gives it to the model: 30 by 80."""
    path = turned_photo(tmp_path)
    schema, output = detections([{"bbox": [0, 40, 30, 80]}])
    page.open(serve(BLUR_IN, schema, lambda _: [succeeded(output)]).url)
    page.field("Image").send_keys(str(path))
    assert page.natural_size(".drop-zone img") == (30, 80)
    page.run()
    box = page.wait(lambda: page.one(".boxes rect").rect, "the box")
    shown = page.one(".boxed img").rect
    assert shown["width"] / shown["height"] == pytest.approx(30 / 80, rel=0.02)
    assert box["y"] - shown["y"] == pytest.approx(shown["height"] / 2, abs=2)


def test_a_mask_is_painted_over_the_upright_photo(page, serve, tmp_path):
    path = turned_photo(tmp_path)
    api = serve(io_schema({"picture": MASKED}), TEXT, lambda _: [succeeded({"text": "ok"})])
    page.open(api.url)
    page.field("Picture").send_keys(str(path))
    page.wait(lambda: page.one(".stage.ready canvas"), "the canvas")
    mask = sent_mask(page, api)
    assert mask.size == (30, 80)
    MaskedImage(image=tungstenkit.Image.from_path(path), mask=tungstenkit.Image.from_pil_image(mask))


# A run


def test_a_slow_run_shows_its_logs_and_can_be_canceled(page, serve):
    api = serve(TEXT, TEXT, lambda _: [{"status": "pending"}, {"status": "running", "logs": "step 1\n"}])
    page.open(api.url)
    page.fill("Text", "x")
    page.run()
    page.wait(lambda: "step 1" in page.one("#output .logs").text, "the logs")
    assert page.status() == "Running"
    assert not page.one("#run").is_enabled()
    before = page.one("#elapsed").text
    page.wait(lambda: page.one("#elapsed").text != before, "time to pass on the page")
    page.one("#cancel").click()
    page.wait_status("Canceled")
    assert api.canceled.is_set()
    assert page.one("#run").is_enabled()
    assert not page.one("#cancel").is_displayed()
    assert page.focused() == page.one("#run")


def test_logs_grow_while_it_runs(page, serve):
    steps = [{"status": "running", "logs": "one\n"}, {"status": "running", "logs": "one\ntwo\n"}]
    api = serve(TEXT, TEXT, lambda _: list(steps))
    page.open(api.url)
    page.fill("Text", "x")
    page.run()
    page.wait(lambda: page.one("#output .logs").text == "one\ntwo", "the second line")


def test_a_failure_says_what_went_wrong(page, serve):
    end = {"status": "failed", "error_message": "ValueError: <b>no</b>", "logs": "it began\n"}
    page.open(serve(TEXT, TEXT, lambda _: [end]).url)
    page.fill("Text", "x")
    page.run()
    page.wait_status("Failed")
    assert page.one("#output .failure").text == "ValueError: <b>no</b>"
    assert page.one("#output .logs").text == "it began"


def test_a_lost_connection_is_shown_and_found_again(page, serve):
    api = serve(TEXT, TEXT, lambda _: [{"status": "running"}])
    page.open(api.url)
    page.fill("Text", "x")
    page.run()
    page.wait_status("Running")
    api.broken = 502
    page.wait(lambda: "502" in page.one("#connection").text, "the notice")
    api.broken = None
    page.wait(lambda: not page.one("#connection").is_displayed(), "the notice to go")
    assert page.status() == "Running"
    page.one("#cancel").click()
    page.wait_status("Canceled")


def test_a_run_that_the_server_forgot_ends(page, serve):
    api = serve(TEXT, TEXT, lambda _: [{"status": "running"}])
    page.open(api.url)
    page.fill("Text", "x")
    page.run()
    page.wait_status("Running")
    api.broken = 404
    page.wait_status("Unknown")
    assert page.one("#connection").text == "The server no longer has this run."


def test_a_reloaded_page_finds_its_run_again(page, serve):
    api = serve(TEXT, TEXT, lambda _: [{"status": "running", "logs": "still here\n"}])
    page.open(api.url)
    page.fill("Text", "x")
    page.run()
    page.wait(lambda: page.one("#output .logs"), "the logs")
    page.driver.refresh()
    page.wait(lambda: page.one("#output .logs").text == "still here", "the logs")
    page.one("#cancel").click()
    page.wait_status("Canceled")
    assert len(api.inputs) == 1


# Results


def show(page, serve, schema, output, **named):
    page.open(serve(io_schema({}), schema, lambda _: [succeeded(output, **named)]).url)
    page.run()
    page.wait_status("Done")


def detections(objects):
    return io_schema({"found": {"type": "array", "items": {"type": "object"}}}), {"found": objects}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"xmin": 10, "ymin": 5, "xmax": 30, "ymax": 25}, {"xmin": 0, "ymin": 0, "xmax": 64, "ymax": 40}),
        ({"bbox": [10, 5, 30, 25]}, {"bbox": [0, 0, 64, 40]}),
        ({"bbox": [10, 5, 20, 20]}, {"bbox": [40, 30, 24, 10]}),  # the second can only be width and height
        ({"box": {"x": 10, "y": 5, "width": 20, "height": 20}}, {"box": {"x": 0, "y": 0, "width": 64, "height": 40}}),
        (
            {"xmin": 0.15625, "ymin": 0.125, "xmax": 0.46875, "ymax": 0.625},
            {"xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0},
        ),
    ],
)  # fmt: skip
def test_detections_are_boxes_over_the_input(page, serve, picture, first, second):
    cat, dog = {"label": "cat", "score": 0.97, **first}, {"label": "dog", "score": 0.5, **second}
    schema, output = detections([cat, dog])
    page.open(serve(BLUR_IN, schema, lambda _: [succeeded(output)]).url)
    page.field("Image").send_keys(str(picture))
    page.run()
    page.wait(lambda: len(page.all(".boxes rect")) == 2, "two boxes")
    rectangle = page.all(".boxes rect")[0]
    assert [float(rectangle.get_attribute(name)) for name in ("x", "y", "width", "height")] == [10, 5, 20, 20]
    assert [name.text for name in page.all(".box-name")] == ["cat 97 %", "dog 50 %"]
    # What is drawn lies where it is over the picture as it is shown.
    shown, box = page.one(".boxed img").rect, rectangle.rect
    scale = shown["width"] / 64
    assert box["x"] - shown["x"] == pytest.approx(10 * scale, abs=2)
    assert box["y"] - shown["y"] == pytest.approx(5 * scale, abs=2)
    assert [row.text.split()[0] for row in page.all("#output tbody tr")] == ["cat", "dog"]


def test_the_demo_output_is_shown_and_the_output_is_the_json(page, serve):
    demo = io_schema({"note": {"type": "string"}})
    end = succeeded({"text": "plain"}, demo_output={"note": "for people"})
    api = serve(io_schema({}), TEXT, lambda _: [end], demo_output_schema=demo)
    page.open(api.url)
    page.run()
    page.wait_status("Done")
    assert page.one(".output").text == "for people"
    assert json.loads(page.show_tab("JSON").find_element("css selector", "pre").text) == {"text": "plain"}


def test_what_programs_get_is_shown_by_its_type_beside_the_demo_output(page, serve, picture):
    box = io_schema({name: {"type": "integer"} for name in ("xmin", "ymin", "xmax", "ymax")})
    found = {"type": "array", "items": io_schema({"label": {"type": "string"}, "bbox": box})}
    output = {"found": [{"label": "cat", "bbox": {"xmin": 4, "ymin": 4, "xmax": 20, "ymax": 20}}]}
    end = succeeded(output, demo_output={"drawn": data_uri(png(9, 9))})
    api = serve(
        BLUR_IN,
        io_schema({"found": found}),
        lambda _: [end],
        demo_output_schema=io_schema({"drawn": file("image")}),
    )
    page.open(api.url)
    page.field("Image").send_keys(str(picture))
    page.run()
    page.wait_status("Done")
    assert page.natural_size("#output figure img") == (9, 9)
    panel = page.show_tab("Output")
    page.wait(lambda: len(page.all(".boxes rect")) == 1, "the box")
    assert [row.text.split()[0] for row in panel.find_elements("css selector", "tbody tr")] == ["cat"]


def test_without_a_demo_output_the_output_is_shown_once(page, serve):
    show(page, serve, TEXT, {"text": "plain"})
    assert [tab.text for tab in page.all("[role=tab]")] == ["Preview", "JSON", "Logs"]


# Examples


def test_an_example_fills_the_form_by_one_click_and_runs(page, serve):
    schema = io_schema(
        {"image": file("image"), "tags": {"type": "array", "items": {"type": "string"}}},
        {"radius": {"type": "number", "default": 2.0}, "more": {"type": "array", "items": file("binary")}},
    )
    examples = [
        {
            "image": data_uri(png(30, 20)),
            "tags": ["a", "b"],
            "radius": 7,
            "more": [data_uri(b"1", "text/plain")],
        },
        {"image": data_uri(png(40, 20)), "tags": []},
    ]
    api = serve(schema, TEXT, echo, examples=examples)
    page.open(api.url)
    first, second = page.all("#examples button")
    assert first.text == "Example 1"
    first.click()
    assert page.natural_size(".drop-zone img") == (30, 20)
    assert page.field("Radius").is_displayed()  # options that it sets are to be seen
    page.run()
    page.wait_status("Done")
    second.click()
    page.wait(lambda: page.natural_size(".drop-zone img") == (40, 20), "the second picture")
    page.run()
    page.wait(lambda: len(api.inputs) == 2, "the second run")
    assert api.inputs == [examples[0], {**examples[1], "radius": 2}]


def test_an_example_s_mask_is_painted_and_can_be_changed(page, serve):
    mask = png(20, 10, (0, 0, 0), lambda picture: picture.paste((255, 255, 255), (0, 0, 10, 10)))
    example = {"photo": {"image": data_uri(png(20, 10)), "mask": data_uri(mask)}}
    api = serve(io_schema({"photo": MASKED}), TEXT, echo, examples=[example])
    page.open(api.url)
    page.one("#examples button").click()
    page.wait(lambda: page.one(".stage.ready canvas"), "the canvas")
    page.run()
    page.wait_status("Done")
    (sent,) = api.inputs
    assert sent["photo"]["image"] == example["photo"]["image"]
    pixels = from_data_uri(sent["photo"]["mask"]).convert("L")
    assert (pixels.size, pixels.getbbox(), set(pixels.tobytes())) == ((20, 10), (0, 0, 10, 10), {0, 255})
    page.one(".tools button:last-of-type").click()
    page.run()
    page.wait(lambda: len(api.inputs) == 2, "the second run")
    assert from_data_uri(api.inputs[1]["photo"]["mask"]).convert("L").getbbox() is None


def test_an_example_with_a_text_is_called_by_it(page, serve):
    page.open(serve(TEXT, TEXT, echo, examples=[{"text": "Once upon a time"}]).url)
    assert page.one("#examples button").text == "Once upon a time"
    page.one("#examples button").click()
    assert page.field("Text").get_property("value") == "Once upon a time"
    page.one("#reset").click()
    assert page.field("Text").get_property("value") == ""


def test_without_examples_there_is_no_place_for_them(page, serve):
    page.open(serve(TEXT, TEXT, echo).url)
    assert not page.one("#examples").is_displayed()


def test_values_are_shown_by_their_type(page, serve):
    schema = io_schema(
        {
            "sound": file("audio"), "film": file("video"), "data": file("binary"),
            "pictures": {"type": "array", "items": file("image")},
            "words": {"type": "array", "items": {"type": "string"}},
            "scores": {"type": "object", "additionalProperties": {"type": "number"}},
            "rows": {"type": "array", "items": io_schema({"a": {"type": "integer"}, "b": {"type": "string"}})},
            "inner": io_schema({"yes": {"type": "boolean"}}), "nothing": {"anyOf": [file("image"), {"type": "null"}]},
        }
    )  # fmt: skip
    output = {
        "sound": data_uri(b"RIFF", "audio/wav"), "film": data_uri(b"film", "video/mp4"),
        "data": data_uri(b"zip", "application/zip"), "pictures": [data_uri(png(3, 2)), data_uri(png(4, 2))],
        "words": ["sea", "boat"], "scores": {"low": 0.1, "high": 0.9},
        "rows": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "inner": {"yes": True}, "nothing": None,
    }  # fmt: skip
    show(page, serve, schema, output)
    downloads = [link.get_attribute("download") for link in page.all(".output .download")]
    assert downloads == ["sound.wav", "film.mp4", "data.zip", "pictures-1.png", "pictures-2.png"]
    assert page.natural_size(".gallery figure:last-child img") == (4, 2)
    assert [chip.text for chip in page.all(".chips li")] == ["sea", "boat"]
    assert [part.text.split()[0] for part in page.all(".parts li")] == ["high", "low"]
    assert [row.text for row in page.all(".output tbody tr")] == ["1 x", "2 y"]
    assert "Yes" in page.one(".output").text


def test_text_from_a_model_is_text(page, serve):
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    output = {"text": hostile, hostile: {hostile: hostile}, "link": "javascript:alert(1)"}
    schema = {"type": "object", "properties": {"text": {"type": "string"}, "link": file("image")}}
    show(page, serve, schema, output, logs=hostile)
    assert page.one(".output").text.count("<script>") == 4
    assert page.all(".output script, .output img, .output a") == []
    assert page.driver.title == "Test model · demo"


def test_a_large_table_shows_its_beginning(page, serve):
    schema, output = detections([{"n": n} for n in range(1000)])
    show(page, serve, schema, output)
    assert len(page.all(".output tbody tr")) == 200
    assert "800 more" in page.one(".output").text


# The shell


def test_the_command_is_short_to_see_and_whole_to_copy(page, serve, tmp_path):
    path = tmp_path / "noise.png"
    noise = Image.effect_noise((80, 60), 90)
    stream = io.BytesIO()
    noise.save(stream, "PNG")
    path.write_bytes(stream.getvalue())
    schema = io_schema({"image": file("image"), "text": {"type": "string"}, "note": {"type": "string"}})
    api = serve(schema, TEXT, echo)
    page.open(api.url)
    page.field("Image").send_keys(str(path))
    page.fill("Text", "it's $HOME")
    page.one("#curl summary").click()
    page.wait(lambda: "it's $HOME" in page.one("#curl-text").text, "the command")
    shown = page.one("#curl-text").text
    assert "…" in shown
    assert len(shown) < 500
    page.one("#copy-curl").click()
    page.wait(lambda: page.one("#copy-curl").text == "Copied", "the copy")
    page.field("Note").click()
    page.chord("\ue009", "v")
    copied = page.wait(lambda: page.field("Note").get_property("value"), "the pasted text")
    first, body, end = copied.split("\n")
    assert (
        first == f"curl -s '{api.url}/predict' -H 'Content-Type: application/json' --data-binary @- <<'JSON'"
    )
    assert json.loads(body) == [{"image": data_uri(path.read_bytes()), "text": "it's $HOME"}]
    assert end == "JSON"


# For everyone


def test_the_page_works_with_the_keyboard_alone(page, serve):
    schema = io_schema({"text": {"type": "string"}}, {"flag": {"type": "boolean", "default": False}})
    api = serve(schema, TEXT, lambda value: [succeeded({"text": value["text"]}, logs="a line\n")])
    page.open(api.url)
    tab, control, enter, right = "\ue004", "\ue009", "\ue007", "\ue014"
    page.keys(tab, "typed", tab, enter, tab, " ")  # the text; opens the options; the switch
    assert page.field("Flag").is_selected()
    page.chord(control, enter)
    page.wait_status("Done")
    assert api.inputs == [{"text": "typed", "flag": True}]
    while page.focused().get_attribute("role") != "tab":
        assert page.focused().tag_name != "body"
        page.keys(tab)
    page.keys(right)
    assert page.focused().text == "JSON"
    assert page.focused().get_attribute("aria-selected") == "true"
    page.keys(right)
    assert page.one("[role=tabpanel]:not([hidden]) .logs").text == "a line"


def test_everything_that_is_used_has_a_name(page, serve, picture):
    schema = io_schema(
        {
            "picture": MASKED,
            "tags": {"type": "array", "items": {"type": "string"}},
            "n": {"type": "integer", "minimum": 0, "maximum": 5},
        },
        {
            "flag": {"type": "boolean", "default": True},
            "d": {"type": "object", "additionalProperties": {}, "default": {"a": 1}},
            "u": {"anyOf": [{"type": "string"}, {"type": "integer"}], "default": 1},
        },
    )
    page.open(serve(schema, TEXT, echo).url)
    page.field("Picture").send_keys(str(picture))
    page.wait(lambda: page.one(".stage.ready canvas"), "the canvas")
    page.one(".options summary").click()
    used = page.all("input, select, textarea, button, canvas, fieldset, section")
    nameless = [element for element in used if element.is_displayed() and not element.accessible_name]
    assert [element.get_attribute("outerHTML") for element in nameless] == []
    assert page.one("#status").get_attribute("aria-live") == "polite"


LUMINANCE = """
const parse = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const light = (colour) => parse(colour).map((c) => linear(c / 255))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const background = (e) => {
  const own = getComputedStyle(e).backgroundColor;
  return /, 0\\)$/.test(own) ? background(e.parentElement) : own;
};
const selector = "h1, h2, .label, .hint, .empty, .primary, .invitation strong, .error, #form-notice, summary";
return [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility()).map((e) => {
  const [a, b] = [light(getComputedStyle(e).color), light(background(e))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  return [contrast, e.outerHTML.slice(0, 80), light(background(document.body))];
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(page, serve, scheme):
    """Contrast of 4.5 to 1 or more: WCAG 2.2, level AA."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        page.open(serve(BLUR_IN, BLUR_OUT, echo).url)
        page.run()
        page.wait(lambda: page.error("Image"), "the message")
        found = page.driver.execute_script(LUMINANCE)
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(found) >= 8
    assert [(round(contrast, 1), what) for contrast, what, _ in found if contrast < 4.5] == []
    assert (found[0][2] < 0.1) is (scheme == "dark")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1000)])
@pytest.mark.parametrize("by", ["click", "keys"])
def test_the_result_is_in_view_whatever_the_form_s_length(page, serve, width, height, by):
    from selenium.webdriver import Keys

    fields = {f"field_{n}": {"type": "string", "default": "x"} for n in range(40)}
    page.open(
        serve(io_schema(fields), BLUR_OUT, lambda _: [succeeded({"image": data_uri(png(300, 300))})]).url,
        width,
        height,
    )
    if by == "click":
        page.run()
    else:
        page.one("#run").send_keys(Keys.ENTER)
    page.wait_status("Done")
    page.natural_size("#output img")
    script = "const {top, bottom} = arguments[0].getBoundingClientRect(); return [top, innerHeight - bottom]"
    found = (page.driver.execute_script(script, page.one(one)) for one in ("#result-title", "#output img"))
    assert min(distance for distances in found for distance in distances) >= 0


def test_long_text_folds(page, serve):
    long = "\n".join(f"line {n}" for n in range(300))
    output = io_schema({"text": {"type": "string"}, "rows": {"type": "array"}})
    value = {"text": long, "rows": [{"a": "word " * 500, "b": 1}]}
    page.open(serve(io_schema({}), output, lambda _: [succeeded(value)]).url)
    page.run()
    page.wait_status("Done")
    assert page.one("#output").size["height"] < 1000
    button, inner = page.all("#output .prose + button")
    assert (button.text, button.get_attribute("aria-expanded")) == ("Show all", "false")
    button.click()
    assert page.one("#output .prose").size["height"] > 4000
    assert page.one("#output .prose").get_property("textContent") == long
    button.click()
    assert (button.text, inner.text) == ("Show all", "Show all")
    assert page.one("#output .prose").size["height"] < 400


def test_the_title_is_words(page, serve):
    page.open(serve(TEXT, TEXT, echo, name="text-to-image-model").url)
    assert page.one("#name").text == "Text to image model"
    assert page.driver.title == "Text to image model · demo"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_every_width(page, serve, picture, width):
    schema, output = detections([{"label": "cat", "bbox": [1, 2, 30, 40], "description": "a long text " * 9}])
    page.open(serve(BLUR_IN, schema, lambda _: [succeeded(output)]).url, width=width)
    page.field("Image").send_keys(str(picture))
    page.run()
    page.wait_status("Done")
    script = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
    inner, outer = page.driver.execute_script(script)
    assert inner <= outer


def test_no_other_host_is_asked(page, serve, picture):
    api = serve(BLUR_IN, BLUR_OUT, lambda value: [succeeded({"image": value["image"]})])
    page.open(api.url)
    page.field("Image").send_keys(str(picture))
    page.run()
    page.wait_status("Done")
    page.natural_size("#output img")
    asked = page.driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert asked
    assert [url for url in asked if not url.startswith((api.url + "/", f"blob:{api.url}/"))] == []


def test_markup_that_is_put_into_the_page_is_refused(page, serve):
    """The policy holds where the page's own care would fail."""
    page.open(serve(TEXT, TEXT, echo).url)
    script = (
        "try { document.body.innerHTML = '<b>x</b>'; return 'taken' } catch (error) { return error.name }"
    )
    assert page.driver.execute_script(script) == "TypeError"
    page.violations()  # the browser's word about it is expected here


def test_a_server_that_does_not_answer_is_said_so(page, serve):
    api = serve(TEXT, TEXT, echo)
    api.metadata = None
    del api.app.view_functions["describe"]
    api.app.view_functions["describe"] = lambda: ("", 502)
    page.driver.get(f"{api.url}/demo")
    page.wait(lambda: "can't be reached" in page.one("#fields").text, "the notice")
    assert not page.one("#run").is_enabled()
