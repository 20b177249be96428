"""Files mean what their source says, and clients can't name files of the machine."""

import base64
import http.server
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import PIL.Image
import PIL.ImageOps
import pydantic
import pytest
from pydantic_core import PydanticSerializationError

from tests.loopback import serving
from tungstenkit import Audio, BaseIO, Binary, Image, MaskedImage, Video
from tungstenkit.sdk.media import FilePath
from tungstenkit.sdk.temporary import temporary_files


class OneImage(BaseIO):
    image: Image


class OneFile(BaseIO):
    file: Binary


def png(mode="RGB", size=(4, 3), color=None):
    buffer = io.BytesIO()
    PIL.Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


class Array:
    """What numpy's arrays show of themselves."""

    __array_interface__ = None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (PIL.Image.new("L", (1, 1)), "not PIL.Image.Image; write Image.from_pil_image(picture)"),
        (Array(), "Array; write Image.from_pil_image(PIL.Image.fromarray(array))"),
        (b"abc", "not bytes; write Image.from_bytes(data)"),
        (io.BytesIO(b"abc"), "not _io.BytesIO; write Image.from_buffer(file)"),
        (3, "not int"),
    ],
)
def test_what_is_no_file_is_told_with_how_one_is_made_of_it(value, told):
    with pytest.raises(pydantic.ValidationError) as caught:
        OneImage(image=value)
    message = caught.value.errors()[0]["msg"]
    assert message.startswith("Value error, must be Image, a path or a URI, not ")
    assert message.endswith(told)


def test_a_picture_is_no_file_of_another_kind():
    with pytest.raises(pydantic.ValidationError) as caught:
        OneFile(file=PIL.Image.new("L", (1, 1)))
    assert caught.value.errors()[0]["msg"].endswith("not PIL.Image.Image")


def from_json(value):
    return OneFile.model_validate_json(json.dumps({"file": value})).file


@pytest.mark.parametrize(
    ("text", "contents", "media_type"),
    [
        ("data:text/plain;base64,aGk=", b"hi", "text/plain"),
        ("DATA:text/plain;charset=utf-8;BASE64,aGk=", b"hi", "text/plain;charset=utf-8"),
        ("data:,a%20b", b"a b", "text/plain;charset=US-ASCII"),
        ("data:image/svg+xml,%3Csvg/%3E", b"<svg/>", "image/svg+xml"),
        ("data:application/x;base64,aGk%3D", b"hi", "application/x"),
        ("aGk=", b"hi", "application/octet-stream"),
        ("aG\r\nk=\n", b"hi", "application/octet-stream"),
    ],
)
def test_files_of_clients(text, contents, media_type):
    file = from_json(text)
    assert file.to_bytes() == contents
    assert file.media_type == media_type


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "file://localhost/etc/passwd",
        "/etc/passwd",
        "etc/passwd",
        "./secret.txt",
        "~/.netrc",
        "ftp://host/file",
        "data:text/plain;base64,***",
        "data:no-comma",
        "data:no type,x",
        "http://",
        "aGk",
        "",
        "é",
    ],
)
def test_clients_name_no_file_of_the_machine(text):
    with pytest.raises(pydantic.ValidationError):
        from_json(text)


@pytest.mark.parametrize("value", [3, None, ["a"], {"uri": "data:,x"}])
def test_clients_give_strings(value):
    with pytest.raises(pydantic.ValidationError):
        from_json(value)


def test_a_refused_scheme_is_named():
    with pytest.raises(pydantic.ValidationError, match="the scheme 'file' is not allowed"):
        from_json("file:///etc/passwd")


def test_addresses_are_kept_and_not_fetched():
    for address in ("http://host.invalid/a.png", "HTTPS://host.invalid/a.png"):
        file = from_json(address)
        assert file.uri == address
        assert file.media_type == "image/png"


def test_paths_of_model_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.txt").write_text("hi")
    uri = (tmp_path / "a b.txt").as_uri()
    sources = [
        "a b.txt",
        tmp_path / "a b.txt",
        str(tmp_path / "a b.txt"),
        uri,
        uri.replace("///", "//localhost/"),
    ]
    for source in sources:
        file = OneFile(file=source).file
        assert file.to_bytes() == b"hi"
        assert file.path == str(tmp_path / "a b.txt")
        assert file.media_type == "text/plain"
        assert file == Binary.from_path("a b.txt")


def test_paths_do_not_move_with_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("hi")
    monkeypatch.chdir(tmp_path)
    file = Binary.from_path("a")
    monkeypatch.chdir("/")
    assert file.to_bytes() == b"hi"


@pytest.mark.parametrize("source", ["", "ftp://host/a", "file://host/a", "data:x", 3, None, b"a"])
def test_sources_that_are_no_files(source):
    with pytest.raises(pydantic.ValidationError):
        OneFile(file=source)
    with pytest.raises((ValueError, TypeError)):
        Binary(source)


def test_files_of_another_kind_are_refused():
    with pytest.raises(pydantic.ValidationError, match="must be Image"):
        OneImage(image=Audio.from_bytes(b"x"))


def test_json_always_holds_the_contents(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    expected = f"data:audio/wav;base64,{base64.b64encode(b'RIFF').decode()}"
    output = OneFile(file=tmp_path / "a.wav")
    assert json.loads(output.model_dump_json()) == {"file": expected}
    assert output.model_dump(mode="json") == {"file": expected}
    assert output.model_dump() == {"file": Binary.from_path(tmp_path / "a.wav")}


def test_a_missing_file_is_an_error_when_it_is_written(tmp_path):
    output = OneFile(file=tmp_path / "missing")
    with pytest.raises(Exception, match="missing"):
        output.model_dump_json()


def test_json_round_trip():
    file = Video.from_bytes(bytes(range(256)), "video/mp4")

    class Holder(BaseIO):
        video: Video

    again = Holder.model_validate_json(Holder(video=file).model_dump_json()).video
    assert again == file
    assert again.media_type == "video/mp4"


def test_the_path_of_bytes_is_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Image.from_bytes(png())
    assert Path(file.path).read_bytes() == png()
    assert file.path.suffix == ".png"
    assert file.path == file.path
    assert list(tmp_path.iterdir()) == []


def test_paths_are_str_and_path_in_one():
    path = FilePath("/a/b.txt")
    assert isinstance(path, str)
    assert os.fspath(path) == "/a/b.txt"
    assert path.name == "b.txt"
    assert path.parent == Path("/a")
    assert path / "c" == Path("/a/b.txt/c")
    with pytest.raises(AttributeError):
        path.nothing  # noqa: B018


def test_temporary_files_go_with_the_block_and_come_back_when_needed():
    file = Binary.from_bytes(b"x")
    with temporary_files():
        inside = file.path
        assert inside.exists()
    assert not inside.exists()
    assert Path(file.path).read_bytes() == b"x"


def test_temporary_files_go_with_the_process():
    program = (
        "import os; from tungstenkit import Binary; path = Binary.from_bytes(b'x').path\n"
        "if os.fork() == 0: raise SystemExit\n"
        "os.wait(); print(path, path.exists())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    path, existed = said.split()
    assert existed == "True", "a forked child took its parent's files away"
    assert not Path(path).parent.exists()


def test_from_buffer(tmp_path):
    (tmp_path / "a.json").write_text("é")
    with (tmp_path / "a.json").open("rb") as binary, (tmp_path / "a.json").open(encoding="utf-8") as text:
        for buffer in (binary, text):
            file = Binary.from_buffer(buffer)
            assert file.to_bytes() == "é".encode()
            assert file.media_type == "application/json"
    assert Binary.from_buffer(io.BytesIO(b"x")).to_bytes() == b"x"
    with pytest.raises(TypeError):
        Binary.from_buffer(b"x")


def test_from_url():
    assert Binary.from_url("data:,x").to_bytes() == b"x"
    for wrong in ("file:///etc/passwd", "/etc/passwd", "x"):
        with pytest.raises(ValueError, match="not an http, https or data URL"):
            Binary.from_url(wrong)


def test_from_bytes_takes_bytes():
    with pytest.raises(TypeError):
        Binary.from_bytes("text")


def test_reprs_are_short():
    assert repr(Binary.from_bytes(bytes(10**6))) == "Binary(<1000000 bytes>)"


@pytest.fixture
def site():
    """An address whose answers are `answers`, by path: status, headers, body."""
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[self.path]
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(http.server.HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", answers


def test_download(site):
    address, answers = site
    answers["/cat.png"] = (200, {"Content-Type": "image/png"}, png())
    file = Image.from_url(f"{address}/cat.png")
    assert file.path.suffix == ".png"
    assert file.to_pil_image().size == (4, 3)
    assert file.media_type == "image/png"
    assert file.uri == f"{address}/cat.png"


def test_failed_downloads_say_why_and_leave_nothing(site, tmp_path, monkeypatch):
    address, answers = site
    answers["/gone"] = (404, {}, b"")
    answers["/short"] = (200, {"Content-Length": "10"}, b"abc")
    answers["/local"] = (302, {"Location": "file:///etc/passwd"}, b"")
    answers["/ftp"] = (302, {"Location": "ftp://127.0.0.1/x"}, b"")
    reasons = {"/gone": "404", "/short": "", "/local": "not allowed", "/ftp": "unknown url type: ftp"}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_files():
        for path, reason in reasons.items():
            with pytest.raises(OSError, match=f"could not download .*{reason}"):
                Binary.from_url(address + path).to_bytes()
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_downloads_are_bounded(site, monkeypatch):
    address, answers = site
    answers["/big"] = (200, {}, b"x" * 100)
    monkeypatch.setattr("tungstenkit.sdk.addresses.DOWNLOAD_LIMIT", 99)
    with pytest.raises(OSError, match="more than 99 bytes"):
        Binary.from_url(f"{address}/big").to_bytes()


MODES = [
    "1",
    "L",
    "LA",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "La",
    "PA",
    "RGBa",
]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_png(mode):
    image = Image.from_pil_image(PIL.Image.new(mode, (4, 3)))
    assert image.media_type == "image/png"
    with PIL.Image.open(io.BytesIO(image.to_bytes())) as opened:
        assert opened.format == "PNG"
        assert opened.size == (4, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_png_keeps_pixels(mode):
    before = PIL.Image.radial_gradient("L").convert(mode)
    with PIL.Image.open(io.BytesIO(Image.from_pil_image(before).to_bytes())) as after:
        assert after.mode == mode
        assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize("image_format", ["JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_an_image_keeps_its_format(image_format):
    buffer = io.BytesIO()
    PIL.Image.radial_gradient("L").save(buffer, image_format)
    with PIL.Image.open(io.BytesIO(buffer.getvalue())) as before:
        image = Image.from_pil_image(before)
    with PIL.Image.open(io.BytesIO(image.to_bytes())) as after:
        assert after.format == image_format
        assert image.media_type == PIL.Image.MIME[image_format]
    if image_format != "JPEG":
        assert image.to_pil_image("RGB") == Image.from_bytes(buffer.getvalue()).to_pil_image("RGB")


def test_a_format_that_cannot_be_kept_becomes_png():
    buffer = io.BytesIO()
    PIL.Image.radial_gradient("L").save(buffer, "PPM")
    with PIL.Image.open(buffer) as opened:
        assert Image.from_pil_image(opened).media_type == "image/png"


def test_compression_is_a_choice():
    image = PIL.Image.radial_gradient("L")
    sizes = [len(Image.from_pil_image(image, compress_level=level).to_bytes()) for level in (0, 1, 9)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(Image.from_pil_image(image).to_bytes()) == sizes[1]


def test_from_pil_image_takes_pillow_images():
    with pytest.raises(TypeError, match="Pillow image"):
        Image.from_pil_image(b"x")


def test_to_pil_image():
    image = Image.from_bytes(png("RGBA", color=(10, 20, 30, 40)))
    for mode in ("RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "1", "L", "P", "I", "F"):
        assert image.to_pil_image(mode).mode == mode
    assert image.to_pil_image().getpixel((0, 0)) == (10, 20, 30)
    with pytest.raises(ValueError, match="Unsupported image mode: 'XYZ'"):
        image.to_pil_image("XYZ")


def deep(mode, *values):
    image = PIL.Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if mode == "I;16" else "TIFF")
    return Image.from_bytes(buffer.getvalue())


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
@pytest.mark.parametrize("wanted", ["RGB", "RGBA", "L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_more_than_8_bits_are_never_cut_off_in_silence(mode, wanted):
    image = deep(mode, 100, 300, 60_000)
    with pytest.raises(ValueError, match="scale them") as caught:
        image.to_pil_image(wanted)
    # What it says to write works.
    names = {"image": image}
    exec("\n".join(line[4:] for line in str(caught.value).splitlines()[1:]), names)
    assert names["picture"].mode == wanted
    if wanted != "LAB":  # which Pillow turns into nothing else
        assert [names["picture"].convert("L").getpixel((x, 0)) for x in (0, 2)] == [0, 255]


def test_all_bits_are_there_for_who_asks():
    image = deep("I;16", 100, 300, 60_000)
    for mode in ("I", "F"):
        assert [image.to_pil_image(mode).getpixel((x, 0)) for x in range(3)] == [100, 300, 60_000]


@pytest.mark.parametrize(
    ("mode", "values", "fit"),
    [
        ("I", (0, 65535), True),
        ("I", (0, 65536), False),
        ("I", (-1, 5), False),
        ("F", (0.5, 255.0), True),
        ("F", (0.0, 256.0), False),
        ("F", (float("nan"), 1.0), False),
    ],
)
def test_what_png_cannot_hold_is_not_written(mode, values, fit):
    image = PIL.Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    if fit:
        assert Image.from_pil_image(image).media_type == "image/png"
        return
    with pytest.raises(ValueError, match="scale them first"):
        Image.from_pil_image(image)


def turned(orientation, image_format, size=(8, 4)):
    """A picture whose upper left corner, as it is seen, is red."""
    seen = PIL.Image.new("RGB", size, "blue")
    seen.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    turns = PIL.Image.Transpose
    undo = [None, turns.FLIP_LEFT_RIGHT, turns.ROTATE_180, turns.FLIP_TOP_BOTTOM, turns.TRANSPOSE]
    undo += [turns.ROTATE_90, turns.TRANSVERSE, turns.ROTATE_270]
    stored = seen if orientation == 1 else seen.transpose(undo[orientation - 1])
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, image_format, exif=exif, **({"quality": 100} if image_format != "PNG" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_as_its_camera_was_turned(image_format, orientation):
    data = turned(orientation, image_format, (80, 40))
    image = Image.from_bytes(data)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        assert image.to_pil_image().tobytes() == PIL.ImageOps.exif_transpose(opened).convert("RGB").tobytes()
    assert PIL.ImageOps.exif_transpose(image.to_pil_image()).size == (80, 40)
    for one in (image, Image.from_pil_image(PIL.Image.open(io.BytesIO(data)))):
        seen = one.to_pil_image()
        assert seen.size == one._size() == (80, 40)
        red, _, blue = seen.getpixel((10, 10))
        assert red > 200 > 50 > blue
        red, _, blue = seen.getpixel((70, 30))
        assert blue > 200 > 50 > red
    # A mask that is painted over it fits, and so does one that is turned itself.
    plain = Image.from_pil_image(PIL.Image.new("L", (80, 40)))
    MaskedImage(image=image, mask=plain)
    assert MaskedImage(image=plain, mask=image).mask.to_pil_image().size == (80, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_is_damaged_turns_nothing():
    for exif in (b"Exif\x00\x00nonsense", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b""):
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (8, 4)).save(buffer, "JPEG", exif=exif)
        assert Image.from_bytes(buffer.getvalue()).to_pil_image().size == (8, 4)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_mask_may_have_more_than_8_bits(mode):
    mask = deep(mode, 0, 1, 300, 60_000)
    masked = MaskedImage(image=mask, mask=mask)
    assert [masked.mask.to_pil_image("L").getpixel((x, 0)) for x in range(4)] == [0, 255, 255, 255]


@pytest.mark.parametrize(
    ("uri", "suffix", "media_type"),
    [
        ("data:application/octet-stream;name=file.npz;base64,AAAA", ".npz", "application/octet-stream"),
        (
            "data:application/octet-stream;name=my.scan.nii.gz;base64,AAAA",
            ".nii.gz",
            "application/octet-stream",
        ),
        ("data:audio/wav;base64,AAAA", ".wav", "audio/wav"),
        ("data:audio/x-wav;base64,AAAA", ".wav", "audio/x-wav"),
        ("data:text/plain;charset=utf-8;name=a.toml,x", ".toml", "text/plain;charset=utf-8"),
        ("data:application/octet-stream;base64,AAAA", ".bin", "application/octet-stream"),
        ("data:image/png;name=file.%2F..%2Fx;base64,AAAA", ".png", "image/png"),
    ],
)
def test_a_data_uri_says_the_suffix(uri, suffix, media_type):
    file = Binary(uri)
    assert (file.suffix, file.media_type) == (suffix, media_type)
    assert file.path.name.endswith(suffix)
    assert "/" not in suffix
    assert Binary(file.uri).suffix == suffix


def test_a_file_that_is_sent_keeps_its_suffix(tmp_path):
    for name, uri in (
        ("a.npz", "data:application/octet-stream;name=file.npz;base64,AAAA"),
        ("b.nii.gz", "data:application/gzip;name=file.nii.gz;base64,AAAA"),
        ("c.wav", "data:audio/wav;base64,AAAA"),
        ("d.jpeg", "data:image/jpeg;base64,AAAA"),
        ("e", "data:application/octet-stream;base64,AAAA"),
    ):
        path = tmp_path / name
        path.write_bytes(bytes(3))
        assert Binary.from_path(path).uri == uri
        with path.open("rb") as file:
            assert Binary.from_buffer(file).uri == uri


def test_damaged_images_are_value_errors():
    noise = os.urandom(3 * 64 * 64)
    buffer = io.BytesIO()
    PIL.Image.frombytes("RGB", (64, 64), noise).save(buffer, "PNG")
    for damaged in (b"", b"no image", buffer.getvalue()[:1000]):
        with pytest.raises(ValueError, match="Image\\(<"):
            Image.from_bytes(damaged).to_pil_image()


def test_a_decompression_bomb_is_a_value_error(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ValueError, match="decompression bomb"):
        Image.from_bytes(png(size=(4, 3))).to_pil_image()


def test_the_media_type_of_an_image_is_seen_from_its_contents():
    assert Image.from_bytes(png()).media_type == "image/png"
    assert Image.from_bytes(b"?").media_type == "application/octet-stream"
    assert Image.from_bytes(png(), "image/x-own").media_type == "image/x-own"


def test_masks_have_two_values():
    mask = PIL.Image.new("RGB", (2, 1))
    mask.putpixel((1, 0), (1, 1, 1))
    both = MaskedImage(image=Image.from_bytes(png(size=(2, 1))), mask=Image.from_pil_image(mask))
    assert both.mask.to_pil_image("L").tobytes() == b"\x00\xff"


def test_masks_have_the_size_of_their_image():
    with pytest.raises(pydantic.ValidationError, match="Mask size is different"):
        MaskedImage(image=Image.from_bytes(png(size=(2, 1))), mask=Image.from_bytes(png(size=(1, 2))))


def test_a_file_that_is_gone_when_it_is_written_is_named(tmp_path):
    output = OneImage(image=Image.from_path(tmp_path / "gone.png"))
    with pytest.raises(PydanticSerializationError, match=r"gone\.png is not there; .* after `predict`"):
        output.model_dump_json()


def test_masks_of_clients():
    uri = Image.from_bytes(png()).uri
    both = MaskedImage.model_validate_json(json.dumps({"image": uri, "mask": uri}))
    assert json.loads(both.model_dump_json())["image"] == uri
    with pytest.raises(pydantic.ValidationError):
        MaskedImage.model_validate_json(json.dumps({"image": uri, "mask": "data:image/png;base64,aGk="}))


class TestLater:
    """A picture that is not encoded before somebody asks."""

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"])
    def test_it_is_encoded_as_it_would_have_been_at_once(self, mode):
        picture = PIL.Image.new(mode, (5, 3))
        picture.info["dpi"] = (72, 72)
        buffer = io.BytesIO()
        with_png_mode = Image.from_pil_image(picture)._given.image
        with_png_mode.save(buffer, "PNG", compress_level=1)
        assert Image.from_pil_image(picture).to_bytes() == buffer.getvalue()

    def test_what_happens_to_the_original_does_not_matter(self, tmp_path):
        canvas = PIL.Image.new("RGB", (2, 2), "red")
        image = Image.from_pil_image(canvas)
        canvas.putpixel((0, 0), (0, 0, 255))
        assert image.to_pil_image().getpixel((0, 0)) == (255, 0, 0)
        canvas.save(tmp_path / "x.png")
        with PIL.Image.open(tmp_path / "x.png") as opened:
            image = Image.from_pil_image(opened)
            PIL.Image.new("RGB", (2, 2), "green").save(tmp_path / "x.png")
        assert image.to_pil_image().getpixel((0, 0)) == (0, 0, 255)

    def test_it_is_encoded_once(self, monkeypatch):
        image = Image.from_pil_image(PIL.Image.new("RGB", (2, 2)))
        first = image.to_bytes()
        monkeypatch.setattr(PIL.Image.Image, "save", None)
        assert image.to_bytes() is first
        assert image.media_type == "image/png"

    def test_its_size_and_pixels_need_no_encoding(self, monkeypatch):
        monkeypatch.setattr(PIL.Image.Image, "save", None)
        image = Image.from_pil_image(PIL.Image.new("RGB", (2, 3)))
        assert image.to_pil_image("L").size == (2, 3)
        assert image.media_type == "image/png"

    def test_equality_is_of_contents(self):
        picture = PIL.Image.new("RGB", (2, 2))
        assert Image.from_pil_image(picture) == Image.from_bytes(Image.from_pil_image(picture).to_bytes())
        assert Image.from_pil_image(picture) != "x"
