"""What a server in this Python is told, and what this Python must have."""

import sys
from dataclasses import replace

import pytest

from tungstenkit.run.address import Address
from tungstenkit.run.local import Handover, LocalModel, local_program
from tungstenkit.sdk.errors import RunError

HERE = Address("127.0.0.1", 4000)


class TestLocal:
    class Spec:
        def __init__(self, *packages):
            self.python_packages = list(packages)

        def to_json(self):
            return "{}"

    def start(self, tmp_path, *packages, gpus="all"):
        model = LocalModel(self.Spec(*packages), tmp_path, gpus, sys.executable)
        return local_program(model, tmp_path / "spec.json", HERE, ["--x", "1"])

    def test_this_python_serves_and_runs_the_model(self, tmp_path):
        program = self.start(tmp_path, "Pydantic>=2", "nothing; python_version < '3'")
        flags = program.command[program.command.index("--spec") :]
        assert flags == [
            *("--spec", str(tmp_path / "spec.json"), "--model-dir", str(tmp_path)),
            *("--model-python", sys.executable, "--host", "127.0.0.1", "--port", "4000", "--x", "1"),
        ]
        assert (tmp_path / "spec.json").read_text() == "{}"
        assert program.kill is None

    def test_every_missing_package_is_named_with_the_way_to_it(self, tmp_path):
        with pytest.raises(RunError) as caught:
            self.start(tmp_path, "no-such-thing[x]==1", "pydantic<1", "pillow")
        assert "no-such-thing[x]==1 is not installed" in caught.value.what
        assert "pydantic<1 is asked for, and " in caught.value.what
        assert "pillow" not in caught.value.what
        assert caught.value.hint == f"{sys.executable} -m pip install 'no-such-thing[x]==1' 'pydantic<1'"

    def test_what_is_no_requirement_of_a_known_project_is_not_asked_for(self, tmp_path):
        self.start(
            tmp_path,
            "pillow",
            "./lib",
            "-c pillow<1",
            "--extra-index-url https://host.example",
            "--prefer-binary",
        )
        with pytest.raises(RunError, match="egg=no-such-thing is not installed"):
            self.start(tmp_path, "git+https://host.example/foo.git#egg=no-such-thing")

    def test_another_python_runs_the_model_and_is_asked_what_it_has(self, tmp_path, monkeypatch):
        """Its versions count, and what markers mean there; what the shell's Python lacks is not pip's to install."""
        python = tmp_path / "python"
        python.write_text(
            '#!/bin/sh\necho \'{"versions": {"pillow": "1", "six": null}, "environment": {"python_version": "2.0"}}\'\n'
        )
        python.chmod(0o755)
        address, spec = HERE, self.Spec("pillow==1", "six; python_version > '3'")
        model = LocalModel(spec, tmp_path, "all", str(python))
        program = local_program(model, tmp_path / "spec.json", address, [])
        assert program.command[program.command.index("--model-python") + 1] == str(python)
        monkeypatch.setenv("TUNGSTEN_MODEL_PYTHON", str(python))
        with pytest.raises(RunError, match="pillow==2 is asked for, and 1 is installed") as caught:
            local_program(replace(model, spec=self.Spec("pillow==2")), tmp_path / "s", HERE, [])
        assert "tungsten lock" in caught.value.hint

    def test_a_python_that_is_none_is_told(self, tmp_path):
        model = LocalModel(self.Spec(), tmp_path, "all", str(tmp_path / "none"))
        with pytest.raises(RunError, match="can't be run"):
            local_program(model, tmp_path / "s", HERE, [])

    def test_a_socket_is_handed_over_in_place_of_the_address(self, tmp_path):
        model = LocalModel(self.Spec(), tmp_path, "all", sys.executable)
        program = local_program(model, tmp_path / "s", HERE, [], Handover(listener=8, control=9))
        assert program.command[-4:] == ["--listen-fd", "8", "--handover-fd", "9"]
        assert "--port" not in program.command
        assert program.inherited == (8, 9)

    @pytest.mark.parametrize(("gpus", "visible"), [(None, ""), ("1", "1")])
    def test_gpus_are_chosen_by_cudas_own_variable(self, tmp_path, gpus, visible):
        assert self.start(tmp_path, gpus=gpus).environment["CUDA_VISIBLE_DEVICES"] == visible
