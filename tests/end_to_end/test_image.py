"""What an image holds, and what a container of it does."""

import base64
import io
import json
import subprocess
import tarfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from packaging.metadata import Metadata
from packaging.utils import canonicalize_name
from PIL import Image, ImageFilter
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.harness import ROOT, container, post, run_in
from tests.server.conftest import DEADLINE, wait_until

PICTURE = ROOT / "examples" / "picture.jpg"


def data_uri(content, media_type="image/jpeg"):
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def get(url):
    return requests.get(url, timeout=30).json()


def our_picture():
    with Image.open(PICTURE) as picture:
        return picture.convert("RGB")


def picture_of(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.fixture(scope="module")
def blur_server(blur):
    with container(blur.image_id) as (url, _):
        yield url


def test_blur_answers_what_pillow_gives(blur_server):
    """The picture that comes back is, byte for byte of its pixels, Pillow's own blur of the picture that went in."""
    status, answer = post(
        f"{blur_server}/predict", [{"image": data_uri(PICTURE.read_bytes()), "radius": 3.5}]
    )
    assert (status, answer["status"], answer["error_message"]) == (200, "success", None)
    expected = our_picture().filter(ImageFilter.GaussianBlur(3.5))
    assert picture_of(answer["outputs"][0]["image"]).tobytes() == expected.tobytes()


def test_outputs_come_in_the_order_of_the_inputs(blur_server):
    pictures = [Image.new("RGB", (8 + n, 8), (n, 0, 0)) for n in range(10)]
    inputs = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        inputs.append({"image": data_uri(buffer.getvalue(), "image/png"), "radius": 0})
    _, answer = post(f"{blur_server}/predict", inputs)
    assert [picture_of(one["image"]).size for one in answer["outputs"]] == [
        picture.size for picture in pictures
    ]


def test_an_invalid_input_is_refused_by_field(blur_server):
    status, answer = post(f"{blur_server}/predict", [{"image": data_uri(b"x"), "radius": 1000}])
    assert status == 422
    assert answer["detail"][0]["loc"] == ["body", 0, "radius"]


def test_metadata(blur_server):
    with urllib.request.urlopen(blur_server) as answer:
        metadata = json.load(answer)
    assert metadata["input_schema"]["required"] == ["image"]
    assert metadata["input_schema"]["properties"]["image"]["x-file-type"] == "image"


def test_the_demo_page_is_in_the_image(blur_server):
    for path in ("demo", "static/demo.js", "static/demo.css"):
        with urllib.request.urlopen(f"{blur_server}/{path}") as answer:
            assert answer.status == 200


def test_a_prediction_can_be_asked_for_now_and_had_later(blur_server):
    _, begun = post(f"{blur_server}/predictions", [{"image": data_uri(PICTURE.read_bytes())}])
    path = f"{blur_server}/predictions/{begun['prediction_id']}"
    unfinished = ("pending", "running")
    found = wait_until(lambda: (now := get(path))["status"] not in unfinished and now, "its end")
    assert found["status"] == "success"
    assert picture_of(found["outputs"][0]["image"]).size == our_picture().size


def test_a_picture_can_travel_as_a_form(blur_server):
    """As bytes, not as base64; text parts mean what the schema says."""
    with PICTURE.open("rb") as file:
        answer = requests.post(
            f"{blur_server}/predict", files={"image": file}, data={"radius": "3.5"}, timeout=60
        )
    expected = our_picture().filter(ImageFilter.GaussianBlur(3.5))
    assert picture_of(answer.json()["outputs"][0]["image"]).tobytes() == expected.tobytes()


def test_the_image_describes_and_measures_itself(blur_server):
    assert get(f"{blur_server}/openapi.json")["openapi"].startswith("3.1")
    assert "tungsten" in requests.get(f"{blur_server}/metrics", timeout=10).text
    assert requests.get(f"{blur_server}/docs", timeout=10).headers["Content-Type"].startswith("text/html")


def test_caption_runs_on_python_3_13_with_numpy_and_a_font_of_debian(caption):
    with container(caption.image_id) as (url, _):
        status, answer = post(
            f"{url}/predict", [{"image": data_uri(PICTURE.read_bytes()), "text": "Hills at dusk"}]
        )
    assert (status, answer["status"], answer["error_message"]) == (200, "success", None)
    assert picture_of(answer["outputs"][0]["image"]).size == our_picture().size
    assert (
        run_in(caption.image_id, "/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2])")
        == "(3, 13)\n"
    )


def accepted(url):
    """How many predictions wait, run or are done."""
    counted = {"tungsten_predictions_pending", "tungsten_predictions_total"}
    families = text_string_to_metric_families(requests.get(url, timeout=DEADLINE).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name in counted)


def test_sigterm_loses_nothing(blur):
    """Requests that were accepted are answered, and the container ends with status 0."""
    picture = Image.new("RGB", (1500, 1500), (90, 40, 200))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    body = [{"image": data_uri(buffer.getvalue(), "image/png"), "radius": 40}]
    with container(blur.image_id) as (url, name), ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(post, f"{url}/predict", body) for _ in range(6)]
        wait_until(lambda: accepted(f"{url}/metrics") == 6, "6 requests")
        subprocess.run(["podman", "stop", "--time", "60", name], check=True, capture_output=True)
        assert [answer.result()[1]["status"] for answer in answers] == ["success"] * 6
        state = subprocess.run(
            ["podman", "inspect", "--format", "{{.State.ExitCode}}", name], capture_output=True, text=True
        )
        assert state.stdout.strip() == "0"


def test_any_user_id_can_run_it(blur):
    """An engine may choose the user; group 0 is enough."""
    with container(blur.image_id, "--user=123456:0", "--passwd=false") as (url, _):
        assert post(f"{url}/predict", [{"image": data_uri(PICTURE.read_bytes())}])[1]["status"] == "success"


def test_configuration(blur):
    config = blur.config["config"]
    assert config["User"] == "65532:0"
    assert config["WorkingDir"] == "/app"
    assert config["ExposedPorts"] == {"3000/tcp": {}}
    assert config["Entrypoint"][0] == "/usr/bin/tini"
    assert config["Labels"]["mem_gb"] == "1"
    assert config["Labels"]["device"] == "cpu"


def layer_files(build, digest):
    with tarfile.open(build.blob(digest), "r:gz") as tar:
        return {member.name: tar.extractfile(member).read() if member.isfile() else None for member in tar}


@pytest.mark.parametrize("example", ["blur", "caption"])
def test_each_debian_package_is_listed_in_its_own_layer(example, request):
    """Scanners read `var/lib/dpkg/status.d`, some of them layer by layer."""
    build = request.getfixturevalue(example)
    lock = json.loads((build.directory / "tungsten.lock").read_text())
    found = {}
    for digest in build.layers:
        files = layer_files(build, digest)
        for name, content in files.items():
            if name.startswith("var/lib/dpkg/status.d/") and content and not name.endswith(".md5sums"):
                fields = dict(line.split(": ", 1) for line in content.decode().splitlines() if ": " in line)
                found[fields["Package"]] = (fields["Version"], fields["Architecture"])
                sums = files[f"{name}.md5sums"].decode() if f"{name}.md5sums" in files else ""
                listed = [line.split(None, 1)[1] for line in sums.splitlines()]
                merged = [
                    path if path.startswith(("usr/", "etc/", "var/", "opt/")) else f"usr/{path}"
                    for path in listed
                ]
                assert set(merged) <= set(files), f"{fields['Package']} is split over layers"
    expected = {
        deb["name"]: (deb["version"], deb["architecture"])
        for deb in lock["platforms"]["x86_64-linux"]["debs"]
    }
    assert found == expected


@pytest.mark.parametrize("example", ["blur", "caption"])
def test_python_packages_are_listed_and_consistent(example, request):
    """The metadata that pip reads names every wheel, and every requirement among them is met (PEP 508)."""
    build = request.getfixturevalue(example)
    lock = json.loads((build.directory / "tungsten.lock").read_text())
    platform, server = lock["platforms"]["x86_64-linux"], lock["server"]["x86_64-linux"]
    python = platform["python"]
    environments = {
        f"usr/local/lib/python{python}/dist-packages/": (platform["wheels"], "tungstenkit-nix"),
        f"opt/tungsten/server/lib/python{python}/site-packages/": (server["wheels"], "tungsten-server"),
    }
    files = {name: content for digest in build.layers for name, content in layer_files(build, digest).items()}
    for place, (wheels, own) in environments.items():
        texts = [
            files[name] for name in files if name.startswith(place) and name.endswith(".dist-info/METADATA")
        ]
        found = [Metadata.from_email(text, validate=False) for text in texts]
        installed = {canonicalize_name(one.name): one.version for one in found}
        assert set(installed) == {wheel["project"] for wheel in wheels} | {own}
        target = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
        for requirement in (requirement for one in found for requirement in one.requires_dist or []):
            if requirement.marker is None or requirement.marker.evaluate(target):
                assert requirement.specifier.contains(installed[canonicalize_name(requirement.name)]), (
                    requirement
                )


def test_libraries_and_certificates_are_found(blur):
    program = (
        "import ctypes.util, ssl, socket, getpass, time;"
        "assert ctypes.util.find_library('ssl') == 'libssl.so.3', ctypes.util.find_library('ssl');"
        "assert len(ssl.create_default_context().get_ca_certs()) > 100;"
        "assert getpass.getuser() == 'nonroot';"
        "assert socket.getservbyname('https') == 443;"
        "assert time.tzname[0] == 'UTC', time.tzname"
    )
    run_in(blur.image_id, "/usr/bin/python3", "-c", program)


def test_the_servers_environment_does_not_see_the_models_packages(blur):
    program = (
        "import importlib.util as u; print([n for n in ('tungstenkit', 'pydantic', 'PIL') if u.find_spec(n)])"
    )
    assert run_in(blur.image_id, "/opt/tungsten/server/bin/python3", "-c", program) == "[]\n"
