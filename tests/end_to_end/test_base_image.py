"""Models on base images, from a registry on loopback: with a Python of their own, without, and with nothing at all."""

import json
import secrets
import subprocess
from pathlib import Path

import pytest

from tests.binaries import deb, wheel
from tests.end_to_end import bases
from tests.end_to_end.harness import build, container, post, remove_images, run_in, succeed, tungsten
from tests.end_to_end.test_wheels import USE_DATA
from tests.frozen.archive import Deb
from tests.machine import needs
from tungstenkit.fetch.needs import LockedFile
from tungstenkit.lock.document import read_lock

pytestmark = needs("docker-registry", "skopeo")

MODEL = """\
from tungstenkit import BaseIO, define_model
import ctypes, json, multiprocessing, os, ssl, subprocess, sys
import six


class Input(BaseIO):
    text: str


class Output(BaseIO):
    text: str


@define_model(input=Input, output=Output, batch_size=1, python_packages=["six"], {arguments})
class Probe:{more}
    def predict(self, inputs):
        import spawned

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            squared = pool.map(spawned.square, [3])
        again = subprocess.run([sys.executable, "-c", "import six, sys; print(sys.executable)"], capture_output=True)
        facts = {{
            "python": sys.version.split()[0].rsplit(".", 1)[0],
            "executable": sys.executable,
            "again": again.stdout.decode().strip(),
            "squared": squared,
            "six": six.__file__,
            "compiled": six.__cached__ is not None and os.path.exists(six.__cached__),
            "authorities": len(ssl.create_default_context().get_ca_certs()) > 50,
            "library": {library},
        }}
        return [Output(text=json.dumps(facts)) for _ in inputs]
"""
LIBRARY = "(ctypes.CDLL('libprobe.so.1').BZ2_bzlibVersion, 'called')[1]"


POST_BUILD = """
    @staticmethod
    def post_build():
        import spawned

        with open("made.txt", "w") as file:
            file.write(str(spawned.square(4)))
"""


def model(folder, reference, library="None", more="", **arguments):
    folder.mkdir()
    text = ", ".join(f"{name}={value!r}" for name, value in {"base_image": reference, **arguments}.items())
    (folder / "tungsten_model.py").write_text(MODEL.format(arguments=text, library=library, more=more))
    (folder / "spawned.py").write_text("def square(x):\n    return x * x\n")
    return folder


def answer(image):
    with container(image.image_id) as (url, _):
        status, found = post(f"{url}/predict", [{"text": ""}])
    assert (status, found["status"]) == (200, "success"), found
    return json.loads(found["outputs"][0]["text"])


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with bases.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def built():
    """Builds models under names that nobody else has; the images are removed in the end."""
    made = []

    def make(folder):
        made.append(build(folder, "--name", f"probe-{secrets.token_hex(4)}"))
        return made[-1]

    yield make
    remove_images(*(image.reference for image in made))


@pytest.fixture(scope="module")
def packages(copy_of):
    """A lock whose packages are in the store: that of examples/blur."""
    folder = copy_of("blur")
    succeed("fetch", folder)
    return folder / "tungsten.lock"


@pytest.fixture(scope="module")
def without_python(registry, packages, tmp_path_factory):
    """Shaped like CUDA's images: Debian 12's libraries, its own folders for more, and no Python."""
    folder = tmp_path_factory.mktemp("base")
    wanted = {"base-files", "dash", "libc6", "libc-bin", "libgcc-s1", "gcc-12-base", "libbz2-1.0"}
    debian = bases.debian_root(packages, wanted, folder)
    library = bases.member(debian[0], "usr/lib/x86_64-linux-gnu/libbz2.so.1.0.4")
    digests = bases.image(
        folder / "image",
        [
            *debian,
            bases.tar(
                ("usr/local/probe/lib64/libprobe.so.1", library, 0o755),
                ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nada:x:7:7::/:/bin/sh"),
                ("srv/gone/old", b"old"),
                ("srv/emptied/old", b"old"),
            ),
            bases.tar(
                ("srv/.wh.gone", b""),
                ("srv/emptied/.wh..wh..opq", b""),
                ("srv/emptied/new", b"new"),
                ("opt", "srv"),
                ("usr/local/bin/tool", b"#!/bin/sh\necho base tool\n", 0o4755),
            ),
        ],
        Env=[
            "PATH=/usr/local/probe/bin:/usr/local/bin:/usr/bin",
            "LD_LIBRARY_PATH=/usr/local/probe/lib64",
            "EDITION=5",
        ],
        Labels={"maintainer": "Ada", "device": "tape"},
        ExposedPorts={"9000/tcp": {}},
        Cmd=["/bin/sh"],
    )
    bases.push(folder / "image", f"{registry}/cuda-like:1")
    return f"{registry}/cuda-like:1", digests


@pytest.fixture(scope="module")
def on_it(built, without_python, tmp_path_factory):
    reference, _ = without_python
    folder = model(
        tmp_path_factory.mktemp("model") / "probe",
        reference,
        LIBRARY,
        python_version="3.13",
        system_packages=["curl"],
        dockerfile_commands=["RUN echo edition $EDITION > /srv/edition"],
    )
    return built(folder)


def test_a_base_without_python_gets_one_that_works_in_all_its_ways(on_it):
    """Python 3.13 of Debian 13, on Debian 12's C library: by its own loader, in programs that it starts, too."""
    python = "/opt/tungsten/python/usr/bin/python3.13"
    assert answer(on_it) == {
        "python": "3.13",
        "executable": python,
        "again": python,
        "squared": [9],
        "six": "/opt/tungsten/python/usr/local/lib/python3.13/dist-packages/six.py",
        "compiled": True,
        "authorities": True,
        "library": "called",
    }


def test_a_bases_layers_are_the_first_of_the_images_unchanged(on_it, without_python):
    _, digests = without_python
    assert on_it.layers[: len(digests)] == digests
    types = {layer["mediaType"] for layer in on_it.manifest["layers"]}
    assert types == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_a_bases_configuration_is_taken_over_where_it_says_nothing_else_than_ours(on_it):
    config = on_it.config["config"]
    environment = dict(entry.split("=", 1) for entry in config["Env"])
    assert environment["EDITION"] == "5"
    assert environment["PATH"].startswith("/usr/local/probe/bin:/usr/local/bin:/usr/bin:")
    assert environment["LD_LIBRARY_PATH"].split(":")[0] == "/usr/local/probe/lib64"
    assert config["Labels"]["maintainer"] == "Ada"
    assert config["Labels"]["device"] == "cpu"
    assert set(config["ExposedPorts"]) == {"3000/tcp", "9000/tcp"}
    assert config["Entrypoint"][0] == "/opt/tungsten/bin/tini"
    assert config["User"] == "65532:0"
    assert "Cmd" not in config


def test_what_a_base_has_stays_what_it_is(on_it):
    """Its whiteouts count, its accounts are kept, its links lead ours, its programs are the same, and run in builds."""
    script = """
    alias cat="/opt/tungsten/bin/busybox cat"
    cat /etc/passwd; echo; echo /srv/*; cat /srv/emptied/* /srv/edition; tool
    test -h /opt && echo linked; test -u /usr/local/bin/tool && echo setuid
    """
    lines = run_in(on_it.image_id, "/bin/sh", "-c", script).split()
    text = " ".join(lines)
    assert "ada:x:7:7::/:/bin/sh nonroot:x:65532:0:nonroot:/home/nonroot:/sbin/nologin" in text
    assert "/srv/edition /srv/emptied /srv/tungsten newedition 5 base tool linked setuid" in text


def test_its_bill_names_the_base_and_what_is_on_it(on_it, without_python):
    """Of the base no more is said than which it is: what is in it, its maker knows."""
    document = json.loads(succeed("sbom", on_it.directory, "--format", "cyclonedx"))
    parts = {one["bom-ref"]: one for one in document["components"]}
    lock = read_lock(on_it.directory / "tungsten.lock").platforms["x86_64-linux"]
    base = parts["base-image"]
    assert (base["type"], base["version"]) == ("container", lock.base_image.digest)
    layers = document["metadata"]["component"]["components"][: len(lock.base_image.layers)]
    counts = [{one["name"] for one in layer["properties"] if "entries:" in one["name"]} for layer in layers]
    assert counts == [{"tungsten:entries:base-image"}] * len(layers)
    assert {f"deb:{deb.name}:{deb.version}:{deb.architecture}" for deb in lock.debs} <= parts.keys()
    unknown = [one for one in document["compositions"] if one["aggregate"] == "unknown"]
    assert [one["assemblies"] for one in unknown] == [["base-image"]]


def test_the_lock_names_digests_and_no_host_but_the_declared(on_it, without_python):
    reference, digests = without_python
    base = read_lock(on_it.directory / "tungsten.lock").platforms["x86_64-linux"].base_image
    assert base.reference == reference
    assert [layer.digest for layer in base.layers] == digests
    assert (base.libc, base.python) == ("2.36", None)


def test_nix_alone_says_how_to_get_a_bases_layers(on_it, tmp_path):
    said = tungsten("nix-export", on_it.directory, "-o", tmp_path / "export")
    assert said.returncode == 0
    assert "have no public URL" in said.stderr
    assert "layer-" not in (tmp_path / "export" / "sources.json").read_text()
    assert not (tmp_path / "export" / "files").exists()


def test_a_base_with_python_uses_its_own(built, registry, packages, tmp_path):
    """Shaped like python:slim: Debian's Python, moved to /usr/local as that image has it, and no other."""
    names = {deb.name for deb in read_lock(packages).platforms["x86_64-linux"].debs}
    debian = bases.debian_root(packages, names - {"tini"}, tmp_path)
    moved = bases.relocate(
        debian[0],
        {"usr/bin/python3.11": "usr/local/bin/python3.11", "usr/lib/python3.11": "usr/local/lib/python3.11"},
    )
    site = "usr/local/lib/python3.11/dist-packages"
    record = b"six.py,,\nsix_old.py,,\nsix-1.0.dist-info/METADATA,,\nsix-1.0.dist-info/RECORD,,\n"
    top = bases.tar(
        ("app/theirs.txt", b"theirs"),
        # The model has files of the same names.
        ("app/spawned.py", b"square = None"),
        ("app/tungsten_model.py", "/etc/hostname"),
        ("usr/local/bin/python3", "python3.11"),
        (f"{site}/six.py", b"__version__ = '1.0'"),
        (f"{site}/six_old.py", b""),
        (f"{site}/other.py", b""),
        (f"{site}/six-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"),
        (f"{site}/six-1.0.dist-info/RECORD", record),
    )
    digests = bases.image(
        tmp_path / "image",
        [moved, debian[1], top],
        Env=["PATH=/usr/local/bin:/usr/bin:/bin"],
        Entrypoint=["python3"],
    )
    reference = f"{registry}/slim-like:3"
    bases.push(tmp_path / "image", reference)
    folder = model(tmp_path / "slim", reference, more=POST_BUILD)
    locked = tungsten("lock", folder)
    assert locked.returncode == 0, locked.stderr
    assert f"not taken over from {reference}: Entrypoint" in locked.stderr
    image = built(folder)
    assert image.layers[:3] == digests
    python = "/usr/local/bin/python3.11"
    found = answer(image)
    assert (found["executable"], found["again"], found["compiled"]) == (python, python, True)
    assert found["six"].startswith("/usr/local/lib/python3.11/")
    assert found["authorities"]
    script = "print(open('/app/theirs.txt').read(), open('/app/made.txt').read())"
    assert run_in(image.image_id, python, "-c", script) == "theirs 16\n"
    # The base has no program of that name, and this machine's must not be taken for it.
    shown = succeed("shell", folder, "--", "python", "-c", "import six, sys; print(sys.executable)")
    assert shown.strip() == python
    assert not any(
        "python3" in deb.name for deb in read_lock(folder / "tungsten.lock").platforms["x86_64-linux"].debs
    )


def test_a_base_of_one_file_will_do_and_no_registry_is_asked_after_a_fetch(built, registry, tmp_path):
    bases.image(tmp_path / "image", [bases.tar(("etc/edition", b"5"))])
    reference = f"{registry}/scratch:latest"
    bases.push(tmp_path / "image", reference)
    folder = model(tmp_path / "scratch", reference)
    data = {"data_files.py": USE_DATA, "data_files-1.0.data/data/share/data-files/x.txt": "found"}
    wheel(folder / "data_files-1.0-py3-none-any.whl", data)
    definition = folder / "tungsten_model.py"
    packages = '["./data_files-1.0-py3-none-any.whl", "six"'
    definition.write_text(definition.read_text().replace('["six"', packages))
    succeed("lock", folder)
    succeed("fetch", folder)
    bases.remove(reference)
    image = built(folder)
    assert answer(image)["squared"] == [9]
    # As in a virtual environment, though its Python is not where it installs to.
    use = "import data_files; print(data_files.read())"
    assert run_in(image.image_id, "/opt/tungsten/python/usr/bin/python3", "-c", use) == "found\n"


@pytest.mark.soak
@needs("zstd")
def test_a_base_of_many_layers_leaves_ours_what_is_left_and_zstd_is_unpacked(built, registry, tmp_path):
    """120 layers of zstd."""
    layers = [bases.tar((f"srv/{number}", str(number).encode())) for number in range(120)]
    digests = bases.image(tmp_path / "image", layers, media_type=f"{bases.TAR}+zstd")
    bases.push(tmp_path / "image", f"{registry}/many:1")
    image = built(model(tmp_path / "model", f"{registry}/many:1", python_version="3.13"))
    assert image.layers[:120] == digests
    assert len(image.layers) == 125
    assert answer(image)["squared"] == [9]
    assert run_in(image.image_id, "/opt/tungsten/bin/busybox", "cat", "/srv/119") == "119"
    assert "zstd" in tools_of(tmp_path / "model")


@needs("zstd")
def test_only_a_lock_of_a_base_with_zstd_layers_has_the_program(registry, tmp_path):
    for kind in ("zstd", "gzip"):
        bases.image(tmp_path / f"image-{kind}", [bases.tar(("a", b""))], media_type=f"{bases.TAR}+{kind}")
        bases.push(tmp_path / f"image-{kind}", f"{registry}/{kind}:1")
        folder = model(tmp_path / kind, f"{registry}/{kind}:1")
        succeed("lock", folder)
        assert ("zstd" in tools_of(folder)) == (kind == "zstd")
        succeed("lock", "--check", folder)


STATUS = "var/lib/dpkg/status"
PASTED = """\
RUN apt-get update && apt-get install -y --no-install-recommends \\
    libprobe-dev probe-data libc6 \\
    && rm -rf /var/lib/apt/lists/*"""
RECORDS = """\
import json, pathlib
files = [path for path in pathlib.Path("/var/lib/dpkg").rglob("*") if path.is_file()]
print(json.dumps({str(path): path.read_text() for path in files}))
"""


@pytest.fixture
def with_dpkg(registry, packages, tmp_path):
    """Shaped like Debian's own image: dpkg's records of Debian 12's packages, and a package in an older version."""
    wanted = {"base-files", "dash", "libc6", "libc-bin", "libgcc-s1", "gcc-12-base", "libbz2-1.0"}
    debian = bases.debian_root(packages, wanted, tmp_path)
    platform = read_lock(packages).platforms["x86_64-linux"]
    controls = [
        Deb.read_control(Path(LockedFile(one.file, one.size, one.sha256).path)).control
        for one in platform.debs
        if one.name in wanted
    ]
    old = deb(tmp_path / "probe-data_0.5_all.deb", control={"Architecture": "all"})
    controls.append(Deb.read_control(old).control)
    status = "\n".join(text.replace("\n", "\nStatus: install ok installed\n", 1) for text in controls)
    records = bases.tar(
        (STATUS, status.encode()),
        ("var/lib/dpkg/info/probe-data.list", b"/.\n/usr\n/usr/share/probe/data\n/usr/share/probe/gone\n"),
        ("usr/share/probe/data", b"old\n"),
        ("usr/share/probe/gone", b"old\n"),
    )
    bases.image(tmp_path / "image", [*debian, records])
    bases.push(tmp_path / "image", f"{registry}/debian-like:12")
    return f"{registry}/debian-like:12"


def test_a_run_of_apt_installs_into_a_base_of_debian_on_top_of_what_it_has(built, with_dpkg, tmp_path):
    """From the archive of the base's release, not of the Python's; what is there stays, but for what is asked for."""
    folder = model(
        tmp_path / "model",
        with_dpkg,
        python_version="3.13",
        system_packages=["probe-diverts"],
        dockerfile_commands=[
            PASTED,
            "RUN read a < /usr/share/probe/data; echo $a /usr/share/probe/* > /srv/seen",
        ],
    )
    said = tungsten("lock", folder)
    assert said.returncode == 0, said.stderr
    assert "RUN apt-get install probe-diverts" in said.stderr
    assert "probe-data 1.0: it takes the place of 0.5, which the base image has" in " ".join(
        said.stderr.split()
    )
    added = read_lock(folder / "tungsten.lock").platforms["x86_64-linux"].base_image.added
    assert added.release == "bookworm"
    assert [(one.name, one.version) for one in added.debs] == [("libprobe-dev", "1.0"), ("probe-data", "1.0")]
    succeed("lock", "--check", folder)
    image = built(folder)
    assert run_in(
        image.image_id, "/bin/sh", "-c", "read a < /srv/seen; echo $a; echo /usr/share/probe/*"
    ) == ("data /usr/share/probe/data\n/usr/share/probe/data\n")
    assert answer(image)["squared"] == [9]
    records = json.loads(run_in(image.image_id, "/opt/tungsten/python/usr/bin/python3", "-c", RECORDS))
    for path, text in records.items():
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.lstrip("/")).write_text(text)

    def query(*arguments):
        command = ["dpkg-query", f"--admindir={tmp_path}/var/lib/dpkg", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert query("-W", "-f", "${Version} ${Status}", "probe-data") == "1.0 install ok installed"
    assert "/usr/include/probe.h" in query("-L", "libprobe-dev").split()
    assert query("-S", "/usr/share/probe/data") == "probe-data: /usr/share/probe/data\n"
    document = json.loads(succeed("sbom", folder, "--format", "cyclonedx"))
    said = {one["bom-ref"]: one.get("purl", "") for one in document["components"]}
    assert {"base-image", "command:0"} <= said.keys()
    assert "distro=debian-12" in said["deb:probe-data:1.0:all"]


@pytest.mark.parametrize(
    ("os_release", "status", "message"),
    [
        ("ID=ubuntu\nPRETTY_NAME='Ubuntu 24.04'", True, "it is Ubuntu 24.04, and packages are Debian's"),
        (
            "ID=debian\nVERSION_CODENAME=buster\nPRETTY_NAME='Debian 10'",
            True,
            "it is Debian 10, which is none",
        ),
        ("ID=debian\nVERSION_CODENAME=bookworm", False, "no list of what is installed"),
        ("", False, "does not say that it is Debian"),
    ],
)
def test_a_run_of_apt_on_another_base_is_refused_with_what_to_do(
    registry, tmp_path, os_release, status, message
):
    files = [("etc/os-release", os_release.encode()), *([(STATUS, b"Package: x\n")] if status else [])]
    bases.image(tmp_path / "image", [bases.tar(*files)])
    bases.push(tmp_path / "image", f"{registry}/other:1")
    line = "RUN apt-get install -y probe-data"
    said = tungsten("lock", model(tmp_path / "model", f"{registry}/other:1", dockerfile_commands=[line]))
    assert said.returncode == 1
    text = " ".join(said.stderr.split())
    assert f"probe-data can't be installed into {registry}/other:1" in text
    assert message in text
    assert "take a base image of" in text


def tools_of(folder):
    """The Debian packages that make layers, by a lock."""
    return {deb.name for deb in read_lock(folder / "tungsten.lock").tools["x86_64-linux"].layers.debs}


def test_a_tag_that_moved_moves_a_lock_only_when_asked(registry, tmp_path):
    reference = f"{registry}/moving:1"

    def publish(edition):
        bases.image(tmp_path / edition, [bases.tar(("etc/edition", edition.encode()))])
        bases.push(tmp_path / edition, reference)

    def locked(*options):
        succeed("lock", folder, *options)
        return read_lock(folder / "tungsten.lock").platforms["x86_64-linux"].base_image.digest

    folder = model(tmp_path / "model", reference)
    publish("first")
    first = locked()
    publish("second")
    assert locked() == first
    second = locked("-P", "base_image")
    assert second != first
    publish("third")
    assert locked("--upgrade") not in (first, second)


def test_an_index_leads_each_platform_to_its_own_image(registry, tmp_path):
    layouts = {}
    for architecture in ("amd64", "arm64"):
        bases.image(
            tmp_path / architecture, [bases.tar(("etc/edition", architecture.encode()))], architecture
        )
        bases.push(tmp_path / architecture, f"{registry}/both:{architecture}")
        layouts[architecture] = tmp_path / architecture
    bases.push_index(layouts, f"{registry}/both:1")
    folder = model(tmp_path / "model", f"{registry}/both:1")
    succeed("lock", folder, "--platform", "x86_64-linux", "--platform", "aarch64-linux")
    platforms = read_lock(folder / "tungsten.lock").platforms
    images = {name: platform.base_image for name, platform in platforms.items()}
    assert images["x86_64-linux"].named == images["aarch64-linux"].named
    assert images["x86_64-linux"].digest == bases.digest(layouts["amd64"])
    assert images["aarch64-linux"].digest == bases.digest(layouts["arm64"])


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ([("lib/ld-musl-x86_64.so.1", b"")], {}, "has the C library musl"),
        ([("a", b"")], {"architecture": "arm64"}, "is an image for linux/arm64"),
    ],
)
def test_what_no_model_can_go_on_is_refused_with_the_remedy(registry, tmp_path, files, options, message):
    bases.image(tmp_path / "image", [bases.tar(*files)], **options)
    bases.push(tmp_path / "image", f"{registry}/refused:1")
    said = tungsten("lock", model(tmp_path / "model", f"{registry}/refused:1"))
    assert said.returncode == 1
    assert message in said.stderr
    assert not (tmp_path / "model" / "tungsten.lock").exists()


def test_an_image_that_is_not_there_is_named(registry, tmp_path):
    said = tungsten("lock", model(tmp_path / "model", f"{registry}/nothing:1"))
    assert said.returncode == 1
    assert f"{registry}/nothing:1" in said.stderr
    assert "look at the name and the tag" in said.stderr
