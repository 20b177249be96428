"""Engines and GPUs, by stand-ins on PATH; and the program that a container is tried with."""

import io
import subprocess
import tarfile

import pytest

from tungstenkit.doctor import engines
from tungstenkit.doctor.finding import State
from tungstenkit.lacks import Linux
from tungstenkit.platforms import ARCHITECTURES, this_system

DEBIAN = Linux(family="debian")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing on it; puts shell scripts there."""
    (folder := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("TUNGSTEN_ENGINE", "TUNGSTEN_ENGINE_ARGS"):
        monkeypatch.delenv(name, raising=False)

    def put(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def looked(root, linux=DEBIAN):
    return {one.lack.name: one for one in engines.engines(linux, root)}


@pytest.mark.parametrize("system", ARCHITECTURES)
def test_the_program_is_a_whole_one(system):
    content = engines.program(system)
    assert content[:4] == b"\x7fELF"
    assert int.from_bytes(content[18:20], "little") == ARCHITECTURES[system].elf
    assert len(content) < 200


def test_it_ends_well(tmp_path):
    path = tmp_path / "exit"
    path.write_bytes(engines.program(this_system()))
    path.chmod(0o755)
    assert subprocess.run([path]).returncode == 0


def test_its_root_is_the_image_s_user_s():
    with tarfile.open(fileobj=io.BytesIO(engines._root_of(b"x"))) as tar:
        (member,) = tar.getmembers()
    assert (member.name, member.uid, member.mode) == ("exit", 65532, 0o755)


def test_no_engine(programs, tmp_path):
    found = looked(tmp_path)
    assert found["container engine"].state is State.LACKING
    assert not found["container engine"].forbids_building
    assert found["container engine"].remedies[0].command == "apt-get install podman"
    assert "containers" not in found
    assert found["GPU"].state is State.OK


def test_an_engine_that_is_named_and_not_there(programs, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNGSTEN_ENGINE", "docker")
    assert "there is no docker" in looked(tmp_path)["container engine"].found


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("permission denied while trying to connect to the socket", "usermod -aG docker"),
        ("Cannot connect to the Docker daemon", "systemctl start docker"),
    ],
)
def test_a_docker_whose_daemon_does_not_answer(programs, tmp_path, said, command):
    programs("docker", f"echo '{said}' >&2; exit 1")
    found = looked(tmp_path)["container engine"]
    assert said in found.found
    assert found.remedies[0].command.startswith(command)


PODMAN = """
log() {{ echo "$@" >>{log}; }}
case $1 in
  --version) echo podman version 5.4.2 ;;
  import) cat >/dev/null; log import ;;
  rmi) log removed ;;
  run) case "$*" in {runs} esac ;;
esac
"""
RLIMIT = "*--ulimit=nofile=1024:1024*) ;; *) echo 'Error: error setting rlimit type 7' >&2; exit 126 ;;"
BOTH = (
    "*--network=host*--ulimit=nofile*) ;; *--network=host*) echo 'rlimit' >&2; exit 126 ;;"
    " *) echo 'netavark: iptables' >&2; exit 125 ;;"
)


@pytest.fixture
def podman(programs, tmp_path):
    def put(runs):
        programs("cat", "exec /bin/cat")
        programs("podman", PODMAN.format(log=tmp_path / "log", runs=runs))

    yield put
    assert (tmp_path / "log").read_text().splitlines() == ["import", "removed"]


def test_a_container_that_starts(podman, tmp_path):
    podman("*--user=65532:0*/exit) ;; *) exit 1 ;;")
    assert looked(tmp_path)["containers"].state is State.OK


@pytest.mark.parametrize(
    ("runs", "configured", "command"),
    [
        (RLIMIT, "", "export TUNGSTEN_ENGINE_ARGS='--ulimit=nofile=1024:1024 --ulimit=nproc=1000:1000'"),
        (
            *(RLIMIT, "--runtime=runc"),
            "export TUNGSTEN_ENGINE_ARGS='--runtime=runc --ulimit=nofile=1024:1024 --ulimit=nproc=1000:1000'",
        ),
        (
            *(BOTH, ""),
            "export TUNGSTEN_ENGINE_ARGS='--network=host --ulimit=nofile=1024:1024 --ulimit=nproc=1000:1000'",
        ),
    ],
)
def test_arguments_are_tried_before_they_are_told(podman, tmp_path, monkeypatch, runs, configured, command):
    podman(runs)
    monkeypatch.setenv("TUNGSTEN_ENGINE_ARGS", configured)
    found = looked(tmp_path)["containers"]
    assert found.state is State.LACKING
    assert [one.command for one in found.remedies] == [command]


def test_arguments_that_do_not_help_are_not_told(podman, tmp_path):
    podman("*) echo 'Error: rlimit' >&2; exit 126 ;;")
    found = looked(tmp_path)["containers"]
    assert found.found == "podman can't start one: Error: rlimit"
    assert found.remedies == ()


def test_ids_that_lack_are_given(podman, tmp_path):
    podman("*) echo 'Error: not enough IDs available in namespace' >&2; exit 125 ;;")
    commands = [one.command for one in looked(tmp_path)["containers"].remedies]
    assert commands[-1] == "podman system migrate"


def test_an_engine_that_hangs_is_left(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_SECONDS", 0.1)
    programs("podman", "[ $1 = --version ] || exec /bin/sleep 600")
    assert "it has not ended" in looked(tmp_path)["containers"].found


@pytest.mark.parametrize(
    ("script", "why"), [("exec /bin/sleep 600", "not ended"), ("echo no >&2; exit 1", "no")]
)
def test_an_engine_that_does_not_say_its_version_is_none(programs, tmp_path, monkeypatch, script, why):
    monkeypatch.setattr(engines, "_SECONDS", 0.1)
    programs("podman", script)
    found = looked(tmp_path)
    assert found["container engine"].state is State.LACKING
    assert why in found["container engine"].found
    # Nothing else is tried with it.
    assert "containers" not in found


def device(root, vendor, kind):
    folder = root / "sys/bus/pci/devices/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("vendor", "kind", "state"),
    [
        ("0x10de", "0x030200", State.LACKING),
        ("0x10de", "0x040300", State.OK),  # its sound
        ("0x8086", "0x030000", State.OK),
    ],
)
def test_a_gpu_without_its_driver(programs, tmp_path, vendor, kind, state):
    device(tmp_path, vendor, kind)
    found = looked(tmp_path)["GPU"]
    assert found.state is state
    assert not found.forbids_building
    if state is State.LACKING:
        assert found.remedies[0].command == "apt-get install nvidia-driver"


SMI = """
case "$*" in
  *--query*) echo "NVIDIA L4, 550.54.15, 23034 MiB" ;;
  *) echo "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4 |" ;;
esac
"""


def test_a_gpu_is_told_with_its_driver_and_the_cuda_of_that(programs, tmp_path):
    programs("nvidia-smi", SMI)
    found = looked(tmp_path)["GPU"]
    assert found.state is State.OK
    assert "NVIDIA L4, 550.54.15, 23034 MiB" in found.found
    assert found.found.endswith("CUDA up to 12.4")


def test_a_driver_that_fails(programs, tmp_path):
    programs("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = looked(tmp_path)["GPU"]
    assert "version mismatch" in found.found
    assert found.state is State.LACKING


@pytest.mark.parametrize("has_specification", [False, True])
def test_podman_needs_to_know_a_gpu(podman, programs, tmp_path, monkeypatch, has_specification):
    podman("*) ;;")
    programs("nvidia-smi", SMI)
    (cdi := tmp_path / "cdi").mkdir()
    if has_specification:
        (cdi / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    monkeypatch.setattr("tungstenkit.run.container.CDI_FOLDERS", [cdi])
    found = looked(tmp_path)["GPU in containers"]
    assert (found.state is State.OK) is has_specification
    if not has_specification:
        assert found.remedies[-1].command.startswith("nvidia-ctk cdi generate")
