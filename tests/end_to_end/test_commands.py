"""`dockerfile_commands`: what they do is in the image and its config, the same each time, or refused with the line."""

import functools
import http.server
import io
import json
import secrets
import shutil
import subprocess
import tarfile

import pytest

from tests.end_to_end.harness import SYSTEM, build, container, nix, post, run_in, succeed, tungsten
from tests.loopback import serving
from tungstenkit import store
from tungstenkit.lock.parts import CommandResult

MODEL = """
import ctypes
import os
import subprocess

from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    number: int

class Output(BaseIO):
    text: str

@define_model(input=Input, output=Output, dockerfile_commands={commands!r})
class Native:
    def predict(self, inputs):
        number = inputs[0].number
        thrice = ctypes.CDLL("libthrice.so.1").thrice(number)
        twice = subprocess.run(["twice", str(number)], capture_output=True, text=True, check=True).stdout
        return [Output(text=f"{{os.environ['GREETING']}} {{twice}} {{thrice}}")] * len(inputs)
"""
TWICE = """
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) { printf("%d", 2 * atoi(argv[1])); return argc != 2; }
"""
LEFT = 10_000_000 + secrets.randbelow(90_000_000)
"""Seconds, by which a process of ours is known from those of whoever runs the same test."""
COMMANDS = [
    "RUN apt-get update && apt-get install -y --no-install-recommends tcc libc6-dev && rm -rf /var/lib/apt/lists/*",
    "ARG SOURCES=/src",
    "WORKDIR $SOURCES",
    "COPY native/*.c ./",
    "ENV GREETING='hello there' PATH=/opt/tool/bin:$PATH",
    # A process that is left behind ends with its step.
    f"RUN mkdir -p /opt/tool/bin && \\\n    tcc -o /opt/tool/bin/twice twice.c && (sleep {LEFT} &)",
    # Without ldconfig: the loader finds it all the same.
    "# a comment\nRUN tcc -shared -fPIC -o /usr/local/lib/libthrice.so.1 thrice.c",
    "RUN rm -r $SOURCES /usr/share/doc /etc/debian_version && chmod 1777 /usr/share/info && touch /usr/share/dict",
    "COPY --chown=nonroot --chmod=640 native/data /var/data/",
    "ADD native/archive.tar.gz /opt/",
    "LABEL team='computer vision'\nEXPOSE 9000/udp",
    "WORKDIR /\nUSER 1000\nRUN mkdir /var/made && touch /var/made/by-1000",
]


def write(folder, commands):
    (folder / "native").mkdir(parents=True, exist_ok=True)
    (folder / "tungsten_model.py").write_text(MODEL.format(commands=commands))
    (folder / "native" / "twice.c").write_text(TWICE)
    (folder / "native" / "thrice.c").write_text("int thrice(int n) { return 3 * n; }\n")
    (folder / "native" / "data").write_text("data")
    with tarfile.open(folder / "native" / "archive.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("packed/file")
        member.size, member.mode, member.uid, member.gid = 4, 0o600, 12, 34
        archive.addfile(member, io.BytesIO(b"pack"))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model, locked."""
    folder = write(tmp_path_factory.mktemp("model") / "native", COMMANDS)
    succeed("lock", folder)
    return folder


@pytest.fixture(scope="module")
def image(model):
    return build(model)


@pytest.fixture
def changed(model, tmp_path):
    """The model with other commands, to be locked again: its pins are kept."""

    def change(*commands):
        folder = tmp_path / "native"
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns(".tungsten"))
        return write(folder, commands)

    return change


def members(image, path="opt/tool/bin/twice"):
    """What the layer holds that has a path."""
    layers = (listed(image.blob(digest)) for digest in image.layers)
    return next((names for names in layers if path in names), {})


@functools.cache
def listed(blob):
    """What a layer holds, by name."""
    with tarfile.open(blob) as layer:
        return {member.name: member for member in layer}


def test_the_model_uses_what_was_compiled(image):
    with container(image.image_id) as (url, _):
        status, answer = post(f"{url}/predict", [{"number": 7}])
    assert (status, answer["outputs"]) == (200, [{"text": "hello there 14 21"}])


def test_what_apt_installs_is_a_wish_of_the_lock(model):
    debs = {
        deb["name"]: deb
        for deb in json.loads((model / "tungsten.lock").read_text())["platforms"][SYSTEM]["debs"]
    }
    assert "dockerfile_commands: tcc" in debs["tcc"]["needed-by"]
    # Commands may use what every Debian has, and no system_packages were asked for.
    assert "essential: coreutils" in debs["coreutils"]["needed-by"]
    assert "dockerfile_commands: tcc" in succeed("why", "tcc", model)


def test_the_config_says_what_the_commands_say(image):
    config = image.config["config"]
    assert config["Labels"]["team"] == "computer vision"
    assert config["Labels"]["device"] == "cpu"
    assert config["ExposedPorts"] == {"3000/tcp": {}, "9000/udp": {}}
    assert "GREETING=hello there" in config["Env"]
    assert any(line.startswith("PATH=/opt/tool/bin:/usr/local/sbin:") for line in config["Env"])
    assert not any(line.startswith("SOURCES=") for line in config["Env"])
    assert config["WorkingDir"] == "/app"


def test_a_deletion_is_seen_in_the_container(image):
    listed = run_in(image.image_id, "/bin/ls", "-d", "/usr/share/info", "/etc", "/opt/packed")
    assert listed.split() == ["/etc", "/opt/packed", "/usr/share/info"]
    script = "for p in /usr/share/doc /src /etc/debian_version; do test -e $p && echo $p; done; true"
    assert run_in(image.image_id, "/bin/sh", "-c", script) == ""


def test_the_layer_is_what_has_changed_and_no_more(image):
    found = members(image)
    assert {name for name in found if ".wh." in name} == {"usr/share/.wh.doc", "etc/.wh.debian_version"}
    assert {name for name, member in found.items() if member.isreg() and ".wh." not in name} == {
        "etc/ld.so.cache",
        "opt/packed/file",
        "opt/tool/bin/twice",
        "usr/local/lib/libthrice.so.1",
        "var/data/data",
    }
    assert all(member.mtime == 1 for member in found.values())
    assert found["usr/share/info"].mode == 0o1777
    assert "usr/share/dict" not in found


def test_owners_and_modes_are_those_that_were_asked_for(image):
    found = members(image)
    shown = {
        name: (found[name].uid, found[name].gid, oct(found[name].mode))
        for name in ("opt/tool/bin/twice", "var/data", "var/data/data", "opt/packed/file")
    }
    assert shown == {
        "opt/tool/bin/twice": (0, 0, "0o755"),
        "var/data": (65532, 0, "0o755"),
        "var/data/data": (65532, 0, "0o640"),
        "opt/packed/file": (12, 34, "0o600"),
    }


def test_a_user_runs_the_image_and_has_what_its_commands_make(image):
    assert image.config["config"]["User"] == "1000:0"
    found = members(image, "var/made/by-1000")
    assert (found["var/made"].uid, found["var/made/by-1000"].uid, found["var"].uid) == (1000, 1000, 0)
    assert run_in(image.image_id, "/usr/bin/id", "-u").strip() == "1000"


def test_locking_again_runs_nothing(model):
    before = (model / "tungsten.lock").read_bytes()
    done = tungsten("lock", model)
    assert done.returncode == 0, done.stderr
    assert "unpacking the layers below" not in done.stderr
    assert (model / "tungsten.lock").read_bytes() == before


def test_editing_the_model_runs_no_command_again(model, image):
    file = model / "tungsten_model.py"
    text = file.read_text()
    file.write_text(text + "\n# an edit\n")
    done = tungsten("build", model, "--no-load")
    file.write_text(text)
    assert done.returncode == 0, done.stderr
    assert "building command" not in done.stderr
    assert "building layer-model" in done.stderr


def test_a_time_in_a_file_is_refused_by_name(changed):
    done = tungsten("lock", changed("RUN mkdir /opt/x && date > /opt/x/when && echo same > /opt/x/same"))
    assert done.returncode == 1
    assert "/opt/x/when:" in done.stderr
    assert "/opt/x/same:" not in done.stderr
    assert "dockerfile_commands[0], line 1" in done.stderr


@pytest.mark.parametrize(
    ("command", "what", "hint"),
    [
        ("RUN true\nRUN exit 3", "the command ended with status 3", ""),
        (
            "RUN true\nRUN python3 -c 'import urllib.request as r; r.urlopen(\"http://no.invalid\")'",
            "Temporary failure in name resolution",
            "RUN --network=default",
        ),
        ("RUN true\nRUN touch /opt/x && chmod u+s /opt/x", "Operation not permitted", "no setuid"),
        ("RUN true\nRUN no-such-program", "not found", "system_packages"),
        ('RUN true\nRUN ["no-such-program"]', "there is no program no-such-program in the image", ""),
    ],
    ids=["status", "network", "setuid", "program", "exec"],
)
def test_a_failure_names_its_line(changed, command, what, hint):
    """Of a COPY: `nix/tools/test_run_commands.py`."""
    done = tungsten("lock", changed(command))
    assert done.returncode == 1
    assert what in done.stderr
    assert "dockerfile_commands[0], line 2" in done.stderr
    assert hint in done.stderr


def test_everything_that_is_wrong_is_told_at_once(changed):
    done = tungsten("lock", changed("FROM debian", "RUN true\nCMD x", "ADD https://no.invalid/x /x"))
    assert done.returncode == 1
    for text in (
        "dockerfile_commands[0], line 1: FROM: the image to build on is named by base_image",
        "dockerfile_commands[1], line 2: CMD:",
        "dockerfile_commands[2], line 1: ADD:",
    ):
        assert text in done.stderr


class Server(http.server.ThreadingHTTPServer):
    """A server on loopback, whose one file may change."""

    content = b""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with serving(Server(("127.0.0.1", 0), Handler)) as running:
        running.content = secrets.token_bytes(8)  # the store has it from no other run
        yield running


DOWNLOAD = "import sys, urllib.request as r; open(sys.argv[2], 'wb').write(r.urlopen(sys.argv[1]).read())"


@pytest.fixture(scope="module")
def downloading(model, server, tmp_path_factory):
    """The model with a step that has the network, locked. What it leaves in /tmp is there for the next step."""
    folder = tmp_path_factory.mktemp("downloading") / "native"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(".tungsten"))
    url = f"http://127.0.0.1:{server.server_port}/x"
    download = f'RUN --network=default ["python3", "-c", "{DOWNLOAD}", "{url}", "/tmp/x"]'
    write(folder, ["COPY native/data /opt/data", download, "RUN mv /tmp/x /opt/downloaded"])
    succeed("lock", folder)
    return folder


def test_what_has_the_network_is_locked_by_hash(downloading, server, tmp_path):
    folder = shutil.copytree(downloading, tmp_path / "native", ignore=shutil.ignore_patterns(".tungsten"))
    (locked,) = json.loads((folder / "tungsten.lock").read_text())["platforms"][SYSTEM]["commands"]
    entry = CommandResult.model_validate(locked)
    path = store.file_path(entry.sha256, entry.file)
    first = build(folder, "--no-load")

    # Made again from nothing, it is the same; changed by one byte, it is refused.
    for roots in (folder / ".tungsten" / "roots", downloading / ".tungsten" / "roots"):
        shutil.rmtree(roots)
    nix("nix-store", "--delete", "--ignore-liveness", path)
    assert build(folder, "--no-load").digest == first.digest
    shutil.rmtree(folder / ".tungsten" / "roots")
    nix("nix-store", "--delete", "--ignore-liveness", path)
    server.content = b"other"
    done = tungsten("build", folder, "--no-load")
    assert done.returncode == 1
    assert "made something else than when the model was locked" in done.stderr
    assert "dockerfile_commands[1], line 1" in done.stderr


def test_a_file_that_a_network_step_sees_makes_the_lock_stale(downloading):
    texts = {name: (downloading / "native" / name).read_text() for name in ("twice.c", "data")}
    try:
        (downloading / "native" / "twice.c").write_text("int changed;")
        assert tungsten("lock", downloading, "--check").returncode == 0
        (downloading / "native" / "data").write_text("changed")
        done = tungsten("lock", downloading, "--check")
    finally:
        for name, text in texts.items():
            (downloading / "native" / name).write_text(text)
    assert done.returncode == 1
    assert "a RUN --network=default of dockerfile_commands sees something else" in done.stderr


def test_no_process_of_a_step_is_left(image):
    found = subprocess.run(["pgrep", "-f", f"^sleep {LEFT}$"], capture_output=True, text=True)
    assert found.stdout == ""
