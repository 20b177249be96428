"""What an engine is told, and what an image says."""

import os

import pytest

from tungstenkit.machine import Needs
from tungstenkit.nix_build.loaded import label
from tungstenkit.run import container
from tungstenkit.run.address import Address
from tungstenkit.run.container import container_program, image_input_schema, image_needs
from tungstenkit.run.program import settings_for_server
from tungstenkit.sdk.errors import RunError

HERE = Address("127.0.0.1", 4000)


class TestContainer:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch):
        for name in settings_for_server(os.environ):
            monkeypatch.delenv(name)

    def told(self, *flags, engine="podman", gpus=None, address=HERE, engine_args=()):
        """The command, without its beginning and the container's random name."""
        program = container_program(engine, "image", address, flags, gpus=gpus, engine_args=engine_args)
        assert program.command[:4] == [engine, "run", "--rm", "--pull=never"]
        name = program.command[4].removeprefix("--name=")
        assert name in program.kill
        assert program.command[5] == label()
        return program.command[6:]

    def test_only_loopback_reaches_it(self):
        assert self.told("--workers", "2") == [
            *("--publish", "127.0.0.1:4000:4000", "--env=TUNGSTEN_ALLOW_HOST=localhost"),
            "--env=TUNGSTEN_MAX_SETUPS",
            *("image", "--port", "4000", "--workers", "2"),
        ]

    def test_what_other_machines_reach_they_may_call_as_they_like(self):
        assert "TUNGSTEN_ALLOW_HOST" not in " ".join(self.told(address=Address("0.0.0.0", 4000)))

    def test_ipv6(self):
        assert self.told(address=Address("::1", 4000))[1] == "[::1]:4000:4000"

    @pytest.mark.parametrize("option", [["--network=host"], ["--net", "host"]])
    def test_on_the_hosts_network_the_server_itself_keeps_to_the_address(self, option):
        assert self.told(engine_args=option) == [
            "--env=TUNGSTEN_MAX_SETUPS",
            *option,
            *("image", "--port", "4000", "--host", "127.0.0.1"),
        ]

    def test_the_servers_settings_are_passed_by_name(self, monkeypatch):
        for name in ("TUNGSTEN_MAX_PENDING", "SETUP_TIMEOUT", "TUNGSTEN_ALLOW_HOST"):
            monkeypatch.setenv(name, "1")
        for name in (
            "TUNGSTEN_MIRROR_PYPI",
            "TUNGSTEN_SHELL",
            "TUNGSTEN_MODEL_PYTHON",
            "TUNGSTEN_ENGINE_ARGS",
            "TUNGSTEN_PORT",
            "TUNGSTEN_HOST",
            "SECRET",
        ):
            monkeypatch.setenv(name, "1")
        passed = [argument for argument in self.told() if argument.startswith("--env")]
        # Of one that is given twice, the last one counts.
        assert passed[1:] == [
            "--env=SETUP_TIMEOUT",
            "--env=TUNGSTEN_ALLOW_HOST",
            "--env=TUNGSTEN_MAX_PENDING",
            "--env=TUNGSTEN_MAX_SETUPS",
        ]

    @pytest.mark.parametrize(("gpus", "value"), [("all", "all"), ("0,2", '"device=0,2"')])
    def test_gpus_of_docker(self, gpus, value):
        told = self.told(engine="docker", gpus=gpus)
        assert told[told.index("--gpus") + 1] == value

    def test_gpus_of_podman_are_cdi_devices(self, tmp_path, monkeypatch):
        (tmp_path / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
        monkeypatch.setattr(container, "CDI_FOLDERS", [tmp_path])
        told = self.told(gpus="0,2")
        assert [argument for argument in told if "nvidia" in argument] == [
            "--device=nvidia.com/gpu=0",
            "--device=nvidia.com/gpu=2",
        ]

    def test_without_the_toolkit_the_remedy_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(container, "CDI_FOLDERS", [tmp_path])
        with pytest.raises(RunError) as caught:
            self.told(gpus="all")
        assert "nvidia-ctk cdi generate" in caught.value.hint
        assert "--no-gpu" in caught.value.hint


class TestImage:
    @pytest.fixture
    def engine(self, tmp_path):
        """A program that answers as an engine's `image inspect` does."""

        def engine(script):
            path = tmp_path / "podman"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            return str(path)

        return engine

    def test_its_labels_say_what_it_needs(self, engine):
        labels = '{"device": "gpu", "gpu_mem_gb": "24", "mem_gb": "1.500000"}'
        assert image_needs(engine(f"echo '{labels}'"), "x") == Needs(1.5, True, 24.0)

    def test_one_that_is_not_there_is_an_error(self, engine):
        with pytest.raises(RunError, match="no image 'x'"):
            image_needs(engine("echo not known >&2; exit 1"), "x")

    @pytest.mark.parametrize("labels", ["null", "{}", '{"mem_gb": "much", "device": "cpu"}'])
    def test_one_that_is_not_ours_is_an_error(self, engine, labels):
        with pytest.raises(RunError, match="not one that tungsten has built"):
            image_needs(engine(f"echo '{labels}'"), "x")

    FAKE = """
echo "$@" >> {log}
case $1 in
  create) {create} ;;
  cp) tar --create --directory={folder} spec.json ;;
  start|run) exit 1 ;;
esac
"""

    @pytest.fixture
    def image(self, engine, tmp_path):
        """An engine with an image; what it was told is in a log."""

        def image(spec, create="true"):
            (tmp_path / "image").mkdir()
            (tmp_path / "image" / "spec.json").write_text(spec)
            return engine(self.FAKE.format(log=tmp_path / "log", folder=tmp_path / "image", create=create))

        return image

    def test_what_its_model_takes_is_read_and_nothing_is_started(self, image, tmp_path):
        podman = image('{"input-schema": {"type": "object"}, "of a later version": 1}')
        assert image_input_schema(podman, "x", ["--runtime=runc"]) == {"type": "object"}
        create, cp, rm = (line.split() for line in (tmp_path / "log").read_text().splitlines())
        name = create[2].removeprefix("--name=")
        assert create == ["create", "--pull=never", f"--name={name}", label(), "--runtime=runc", "x"]
        assert cp == ["cp", f"{name}:/opt/tungsten/spec.json", "-"]
        assert rm == ["rm", "--force", name]

    @pytest.mark.parametrize(("spec", "create"), [("{}", "true"), ("no JSON", "true"), ("{}", "exit 125")])
    def test_where_it_cant_be_read_the_server_is_asked(self, image, tmp_path, spec, create):
        assert image_input_schema(image(spec, create), "x") is None
        assert (tmp_path / "log").read_text().splitlines()[-1].startswith("rm --force tungsten-")
