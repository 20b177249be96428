"""Nix's log into a view and one error; a layout into a description."""

import base64
import json
import os
import pwd
import signal
import subprocess
from types import SimpleNamespace

import pytest

from tungstenkit.data import NIX
from tungstenkit.machine import Room
from tungstenkit.nix_build import build as building
from tungstenkit.nix_build.build import _Log, read_layout
from tungstenkit.sdk.errors import BuildError


class View:
    """Records what it is told."""

    def __init__(self):
        self.seen = []

    def begin(self, step):
        self.seen.append(f"+{step}")

    def say(self, step, line):
        self.seen.append(f"{step}: {line}")

    def end(self, step):
        self.seen.append(f"-{step}")

    def note(self, text):
        self.seen.append(text)


def log_of(*events):
    view = View()
    log = _Log(view)
    for event in events:
        log.read(event if isinstance(event, str) else f"@nix {json.dumps(event)}\n")
    return log, view


DRV = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-layer-wheels.drv"
START = {"action": "start", "id": 7, "type": 105, "fields": [DRV, "", 1, 1], "level": 3, "text": "building"}
FAILED = {
    "action": "msg",
    "level": 0,
    "msg": f"\x1b[31;1merror:\x1b[0m builder for '{DRV}' failed with exit code 1",
}


def line(text):
    return {"action": "result", "id": 7, "type": 101, "fields": [text]}


def test_builds_are_told_to_the_view():
    _, view = log_of(
        START, {"action": "start", "id": 8, "type": 101, "fields": []}, {"action": "stop", "id": 7}
    )
    assert view.seen == ["+layer-wheels", "-layer-wheels"]


FAILED_LATER = {
    "action": "msg",
    "level": 0,
    "msg": "error: Cannot build '/nix/store/00000000000000000000000000000000-image.drv'.\n"
    "       Reason: \x1b[31;1m1 dependency failed\x1b[0m.\n"
    f"error: Cannot build '\x1b[35;1m{DRV}\x1b[0m'.\n"
    "       Reason: \x1b[31;1mbuilder failed with exit code 1\x1b[0m.",
}


ELSEWHERE = {**FAILED, "msg": FAILED["msg"].replace("/nix/store", "/home/a b/.local/share/store")}


@pytest.mark.parametrize("failed", [FAILED, FAILED_LATER, ELSEWHERE])
def test_a_failed_step_is_named_with_the_end_of_its_log(failed):
    log, _ = log_of(
        START, *(line(f"line {number}") for number in range(100)), line("error: x.whl: bad"), failed
    )
    error = log.error(1)
    assert error.where == "the build step layer-wheels"
    assert error.what.endswith("\nx.whl: bad")
    assert "line 10\n" not in error.what


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([START, line("write error: No space left on device"), FAILED], "disk is full"),
        (
            [{"action": "msg", "level": 0, "msg": "unable to download 'run-tungsten-fetch://…'"}],
            "tungsten fetch",
        ),
        (
            [
                f"error: a 'aarch64-linux' with features {{}} is required to build '{DRV}', but I am a 'x86_64-linux'"
            ],
            "runs programs for aarch64-linux, which this machine can't",
        ),
        (
            [f"error: Cannot build '{DRV}'.\nRequired system: 'aarch64-linux' with features {{}}"],
            "build the image on aarch64-linux",
        ),
        (["error: cannot connect to socket at '/nix/var'"], "cannot connect to socket"),
    ],
)
def test_what_a_user_can_mend_has_its_hint(events, word):
    log, _ = log_of(*events)
    assert word in str(log.error(1))


def test_a_build_that_says_nothing_gives_its_status():
    log, _ = log_of()
    assert "status 137" in str(log.error(137))


@pytest.mark.parametrize(
    ("name", "tag", "engine", "expected"),
    [
        ("blur", "latest", "podman", "localhost/blur:latest"),
        ("team/blur", "v1.2", "podman", "localhost/team/blur:v1.2"),
        ("registry.example:5000/team/blur", "v1", "podman", "registry.example:5000/team/blur:v1"),
        ("localhost/blur", "x", "podman", "localhost/blur:x"),
        ("registry:5000/blur", "x", "podman", "registry:5000/blur:x"),
        ("blur", "latest", "docker", "blur:latest"),
        ("blur", "latest", None, "blur:latest"),
    ],
)
def test_a_reference_is_what_the_engine_calls_it(name, tag, engine, expected):
    assert building.reference(name, tag, engine) == expected


@pytest.mark.parametrize(
    ("name", "tag"), [("Blur", "x"), ("", "x"), ("a b", "x"), ("blur:v3", "x"), ("blur", "a b"), ("blur", "")]
)
def test_a_name_that_no_engine_takes_is_refused(name, tag):
    with pytest.raises(BuildError, match="is not a"):
        building.reference(name, tag, "podman")


@pytest.mark.parametrize(
    "name",
    [
        "blur",
        "blur:1",
        "a.b/c-d/e__f:V_1.x",
        "localhost:5000/blur:1",
        "registry:5000/blur",
        "[::1]:5000/blur:1",
    ],
)
def test_where_an_image_is_pushed_to_is_a_name_and_a_tag(name):
    building.check_target(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "BAD//REF",
            "a b",
            "Blur:1",
            "blur:",
            ":1",
            "blur:.x",
            "blur/",
            "host/a:1/b",
            "docker://a.b/c:1",
        ),
        *(f"blur@sha256:{'0' * 64}", f"blur:{'x' * 129}", "x" * 256, "blur:é", "blur\n"),
    ],
)
def test_what_no_registry_takes_is_refused(name):
    with pytest.raises(BuildError, match="is no reference"):
        building.check_target(name)


def test_a_layout_is_described_from_its_own_documents(tmp_path):
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = {"config": {"digest": "sha256:cc", "size": 10}, "layers": [{"size": 100}, {"size": 1000}]}
    (blobs / "aa").write_text(json.dumps(manifest))
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:aa", "size": 1}]}))
    image = read_layout(tmp_path)
    assert (image.digest, image.image_id, image.size) == ("sha256:aa", "sha256:cc", 1111)


@pytest.mark.parametrize(
    ("settings", "promised"),
    [
        ({}, False),
        ({"sandbox-fallback": False}, True),
        ({"sandbox-fallback": False, "sandbox": "relaxed"}, False),
        ({"trusted-users": ["root", "*"]}, True),
        ({"trusted-users": ["root", pwd.getpwuid(os.geteuid()).pw_name]}, True),
    ],
)
def test_a_daemon_must_promise_the_sandbox(monkeypatch, settings, promised):
    """Its own settings count, unless it trusts this user; these are the defaults of Debian's Nix."""
    shown = {"sandbox": True, "sandbox-fallback": True, "trusted-users": ["other"]} | settings
    text = json.dumps({name: {"value": value} for name, value in shown.items()})
    monkeypatch.setenv("NIX_REMOTE", "daemon")
    monkeypatch.setattr(building.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=text))
    if promised:
        building._check_daemon()
    else:
        with pytest.raises(BuildError, match="does not promise the sandbox"):
            building._check_daemon()


class TestEngine:
    @pytest.fixture
    def installed(self, tmp_path, monkeypatch):
        """Makes PATH hold these programs alone; a docker without a daemon fails."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("TUNGSTEN_ENGINE", raising=False)

        def install(*names, daemon=True):
            for name in names:
                (tmp_path / name).write_text(f"#!/bin/sh\nexit {0 if daemon else 1}\n")
                (tmp_path / name).chmod(0o755)

        return install

    def test_podman_comes_first(self, installed):
        installed("podman", "docker")
        assert building.find_engine() == "podman"

    def test_docker_counts_with_a_daemon(self, installed):
        installed("docker", daemon=False)
        assert building.find_engine() is None
        installed("docker")
        assert building.find_engine() == "docker"

    def test_the_environment_chooses(self, installed, monkeypatch):
        installed("podman", "docker")
        monkeypatch.setenv("TUNGSTEN_ENGINE", "docker")
        assert building.find_engine() == "docker"

    @pytest.mark.parametrize("engine", ["podman", "docker", "rkt"])
    def test_a_choice_that_is_not_there_is_an_error(self, installed, monkeypatch, engine):
        monkeypatch.setenv("TUNGSTEN_ENGINE", engine)
        with pytest.raises(BuildError, match=engine) as caught:
            building.find_engine()
        assert caught.value.where == "TUNGSTEN_ENGINE"


def told(**fields):
    return line(f"@tungsten {json.dumps(fields)}")


SAID = {"what": "it fails:\nKeyError: 1", "where": "model.py, line 3", "hint": "do not"}


def test_what_a_step_says_itself_is_the_error():
    lines = [line(f"line {number}") for number in range(100)]
    log, view = log_of(START, *lines, told(kind="import", name="x", **SAID), line("error: words"), FAILED)
    error = log.error(1)
    assert (error.what, error.where, error.hint) == tuple(SAID.values())
    assert (error.step, error.told["kind"], error.told["name"]) == ("layer-wheels", "import", "x")
    assert error.told["log"].split("\n")[-1] == "line 99"
    assert not any("@tungsten" in seen for seen in view.seen)


def test_what_a_step_tells_programs_alone_is_known_beside_its_log():
    log, _ = log_of(START, told(kind="undeclared", requirements=["a>1"]), line("error: words"), FAILED)
    error = log.error(1)
    assert (error.what, error.where) == ("words", "the build step layer-wheels")
    assert error.told["requirements"] == ["a>1"]


@pytest.mark.parametrize(
    "text", ["@tungsten", "@tungsten {", "@tungsten []", '@tungsten {"kind": 1}', '@tungsten {"what": "x"}']
)
def test_what_is_no_such_line_is_a_line_of_the_log(text):
    log, view = log_of(START, line(text), FAILED)
    assert log.error(1).what == text
    assert f"layer-wheels: {text}" in view.seen


def test_what_a_step_says_of_itself_does_not_reach_the_terminal_as_more_than_text():
    log, _ = log_of(START, told(kind="x", what="a\x1b[2Jb", where="c", hint=7), FAILED)
    error = log.error(1)
    assert (error.what, error.where, error.hint) == ("ab", "c", None)


def test_a_file_of_another_hash_is_told_with_it():
    made = "ab" * 32
    got = base64.b64encode(bytes.fromhex(made)).decode()
    text = f"hash mismatch in fixed-output derivation '{DRV}':\n  specified: sha256-AA=\n     got:    sha256-{got}"
    log, _ = log_of(START, {"action": "msg", "level": 0, "msg": f"error: {text}"})
    error = log.error(1)
    assert (error.what, error.file, error.sha256) == (text, "layer-wheels", made)


def test_a_steps_notes_are_told_though_it_succeeds():
    _, view = log_of(
        START, told(kind="note", what="no GPU", where="m.py", hint="try"), {"action": "stop", "id": 7}
    )
    assert "note: no GPU\n  in:   m.py\n  hint: try" in view.seen


@pytest.mark.parametrize(
    "events",
    [
        [
            START,
            line('@tungsten {"kind": "namespaces-refused"}'),
            line("tungsten: whatever it says"),
            FAILED,
        ],
        [{"action": "msg", "level": 0, "msg": "error: cloning builder process: Operation not permitted"}],
        [{"action": "msg", "level": 0, "msg": "error: cloning builder process: No space left on device"}],
        [{"action": "msg", "level": 0, "msg": "error: mounting /proc: Operation not permitted"}],
        [
            {
                "action": "msg",
                "level": 0,
                "msg": "error: this system does not support the kernel namespaces that are required for sandboxing",
            }
        ],
        [
            "error: cannot perform a sandboxed build because user namespaces are not enabled; check /proc/sys/…"
        ],
    ],
)
def test_forbidden_namespaces_are_told_with_the_remedy(events):
    log, _ = log_of(*events)
    error = log.error(1)
    assert "does not allow user namespaces" in error.what
    assert "sysctl" in error.hint


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, "`sysctl -w kernel.unprivileged_userns_clone=1` as root"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1", "user/max_user_namespaces": "10"},
            "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root",
        ),
        ({"user/max_user_namespaces": "0"}, "`sysctl -w user.max_user_namespaces=100000` as root"),
    ],
)
def test_the_remedy_is_the_one_for_this_machine(tmp_path, values, hint):
    for name, value in values.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    assert building.namespaces_refused("said", tmp_path).hint == hint


def test_nix_ends_with_us(monkeypatch, tmp_path):
    """Where a signal is not the terminal's, it does not reach Nix."""
    (tmp_path / "nix").write_text("#!/bin/sh\necho started >&2\nexec sleep 100\n")
    (tmp_path / "nix").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(building, "_check_builders", lambda: None)
    monkeypatch.setattr(building, "_check_daemon", lambda: None)
    monkeypatch.setattr(building.store, "options", list)  # which may ask Nix for its version
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            started.append(self)
            super().__init__(*arguments, **options)

    def interrupted(log, line):
        raise KeyboardInterrupt

    monkeypatch.setattr(building.subprocess, "Popen", Popen)
    monkeypatch.setattr(building._Log, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        building.run_build([], View(), tmp_path)
    assert [process.wait(9) for process in started] == [-signal.SIGTERM]


def test_where_no_setting_forbids_it_a_container_may(tmp_path):
    hint = building.namespaces_refused("said", tmp_path).hint
    assert "--security-opt seccomp=unconfined --security-opt unmask=ALL;" in hint


@pytest.mark.parametrize("program", ["enter.py", "run_commands.py", "step.sh"])
def test_what_a_step_says_of_forbidden_namespaces_is_known(program):
    assert "namespaces-refused" in (NIX / "tools" / program).read_text()
    log, _ = log_of(START, told(kind="namespaces-refused"), line("whatever it says"), FAILED)
    assert "sysctl" in log.error(1).hint


def test_root_does_not_build_as_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(building.store, "builders", lambda: building.store.Builders.NONE)
    with pytest.raises(BuildError, match="must not be this machine's root") as caught:
        building.run_build([], View(), tmp_path)
    assert building.store.BUILD_USERS_COMMAND in (caught.value.hint or "")


def test_an_image_of_a_store_that_was_changed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(building, "_nix_build", lambda *arguments: None)
    monkeypatch.setattr(building.store, "is_ours", lambda: True)
    monkeypatch.setattr(building.store, "built_from", lambda path: [path, "/nix/store/x-root"])
    monkeypatch.setattr(building.store, "changed", lambda paths, _since: paths[1:])
    with pytest.raises(BuildError, match="was changed in the Nix store") as caught:
        building.build(tmp_path, "x86_64-linux", tmp_path / "link", View())
    assert caught.value.where == "/nix/store/x-root"


def test_a_failed_push_does_not_show_what_skopeo_was_told(monkeypatch, tmp_path):
    (tmp_path / "skopeo").write_text("#!/bin/sh\necho denied >&2\nexit 1\n")
    (tmp_path / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(BuildError, match="denied") as caught:
        building.push(SimpleNamespace(layout=tmp_path), "host/a:1", ["--dest-creds=user:hunter2"])
    assert "hunter2" not in str(caught.value)
    assert "host/a:1" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x1b]0;a title\x07done", "done"),
        ("\x1b]52;c;cm0gLXJmIC8=\x1b\\done", "done"),
        ("\x1bP+q544e\x1b\\done", "done"),
        ("\x9b2Jdone\x08\x00", "2Jdone"),
        ("\x1b]8;;never ended", ""),
        ("10%\r20%\tdone\n", "10%\r20%\tdone\n"),
        ("größer", "größer"),
    ],
)
def test_what_a_step_says_is_text_alone(said, shown):
    """A step is somebody else's code, and the terminal is the user's."""
    assert building._without_colours(said) == shown


GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "free", "said", "expected"),
    [
        (2, 64 * GIB, set(), {"max-jobs": "2", "cores": "2"}),
        (64, 64 * GIB, set(), {"max-jobs": "4", "cores": "64"}),
        (8, 5 * GIB, set(), {"max-jobs": "2", "cores": "8"}),
        (8, GIB, set(), {"max-jobs": "1", "cores": "8"}),
        (8, None, set(), {"max-jobs": "1", "cores": "8"}),
        (2, 64 * GIB, {"max-jobs"}, {"cores": "2"}),
        (2, 64 * GIB, {"build-cores"}, {"max-jobs": "2"}),
        (2, 64 * GIB, {"cores", "build-max-jobs", "sandbox"}, {}),
    ],
)
def test_steps_run_side_by_side_as_the_machine_can_and_nobody_has_said_otherwise(
    monkeypatch, cores, free, said, expected
):
    monkeypatch.setattr(building, "processors", lambda: cores)
    monkeypatch.setattr(building, "memory", lambda: free and Room(64 * GIB, free))
    monkeypatch.setattr(building.store, "configured", lambda: said)
    options = building._pace()
    assert set(options[::3]) <= {"--option"}
    assert dict(zip(options[1::3], options[2::3], strict=True)) == expected
