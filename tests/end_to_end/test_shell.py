"""The development shell: the image's programs on this machine, whoever starts it, and from Nix alone."""

import base64
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.end_to_end.harness import (
    ROOT,
    SYSTEM,
    TUNGSTEN,
    checkout,
    free_port,
    nix,
    nix_line,
    succeed,
    tungsten,
)
from tests.machine import need, needs
from tests.server.conftest import DEADLINE, wait_until
from tungstenkit import store

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
VERSIONS = "import sys, PIL, pydantic; print(*sys.version_info[:2], PIL.__version__, pydantic.VERSION)"


def locked_versions(folder):
    lock = json.loads((folder / "tungsten.lock").read_text())["platforms"][SYSTEM]
    wheels = {wheel["project"]: wheel["version"] for wheel in lock["wheels"]}
    return f"{lock['python'].replace('.', ' ')} {wheels['pillow']} {wheels['pydantic']}\n"


@pytest.fixture(scope="module")
def model(copy_of):
    """examples/blur with its shell."""
    folder = copy_of("blur")
    succeed("shell", folder, "--", "true")
    return folder


@pytest.fixture
def python(model):
    """Runs the shell's Python, as an editor would: by its path alone."""

    def run(script, *arguments, before=(), **options):
        command = [*before, model / ".tungsten/shell/bin/python", "-c", script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **options)

    return run


@pytest.fixture
def anyones(model):
    """A folder of an ordinary user's, and the shell's folder by a path that they may read."""
    need("root")
    folder = Path(tempfile.mkdtemp(prefix="tungsten-test-"))
    os.chown(folder, 65534, 65534)
    yield folder, (model / ".tungsten/shell").resolve()
    shutil.rmtree(folder)


class TestPrograms:
    def test_versions_are_the_locked_ones(self, model):
        assert succeed("shell", model, "--", "python3", "-c", VERSIONS) == locked_versions(model)

    def test_the_root_is_the_images_and_the_rest_is_the_machines(self, python, model, tmp_path):
        script = "import os; open('made', 'w').close(); print(os.getcwd(), os.environ['HOME']); open('/usr/x', 'w')"
        done = python(script, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)})
        assert done.stdout == f"{tmp_path} {tmp_path}\n"
        assert "Read-only file system: '/usr/x'" in done.stderr
        assert (tmp_path / "made").exists()
        assert "bookworm" in python("print(open('/etc/os-release').read())").stdout
        assert (
            python("print(open('/etc/resolv.conf').read())").stdout
            == Path("/etc/resolv.conf").read_text() + "\n"
        )

    @needs("root")
    @pytest.mark.parametrize("place", ["/opt", "/usr/local/src", "/var/lib"])
    def test_a_folder_among_the_systems_own_is_seen(self, python, place):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            done = python("import os, PIL; open('made', 'w').close(); print(os.getcwd())", cwd=folder)
            assert done.stdout == f"{folder}\n", done.stderr
            assert [path.name for path in Path(folder).iterdir()] == ["made"]

    def test_an_ordinary_user_is_themselves(self, anyones):
        folder, shell = anyones
        script = "import os, pwd; open('made', 'w').close(); print(os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()))"
        command = [*NOBODY, shell / "bin/python3", "-c", script]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"HOME": str(folder)})
        assert done.stdout.startswith("65534 65534 "), done.stderr
        assert (folder / "made").stat().st_uid == 65534

    def test_status_signals_input_and_process_are_the_programs_own(self, python, model):
        assert python("raise SystemExit(7)").returncode == 7
        assert python("import os; os.kill(os.getpid(), 15)").returncode == -signal.SIGTERM
        assert python("print(input() * 2)", input="ab\n").stdout == "abab\n"
        command = [model / ".tungsten/shell/bin/python", "-c", "import os; print(os.getpid())"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.read() == f"{process.pid}\n"

    def test_a_terminal_stays_one(self, model):
        ours, theirs = pty.openpty()
        script = "import os; print(os.isatty(0) and os.isatty(1), os.ttyname(0))"
        command = [model / ".tungsten/shell/bin/python", "-c", script]
        subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, check=True)
        name = os.ttyname(theirs)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # which is how a terminal ends
            while part := os.read(ours, 1000):
                shown += part
        os.close(ours)
        assert shown == f"True {name}\r\n".encode()

    def test_what_they_start_is_the_images_too(self, python, tmp_path):
        (tmp_path / "script").write_text("#!/bin/sh\ncommand -v python3\n")
        (tmp_path / "script").chmod(0o755)
        script = "import subprocess, sys; subprocess.run(['./script']); subprocess.run(['python3', '-c', 'import PIL'])"
        done = python(script, cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("/usr/bin/python3\n", "")

    def test_the_machines_libraries_and_locale_are_not_for_them(self, python):
        environment = {**os.environ, "LD_PRELOAD": "/usr/lib/none.so", "LC_ALL": "de_DE.UTF-8"}
        done = python("import os; print(os.environ.get('LC_ALL'), os.environ['LANG'])", env=environment)
        assert (done.stdout, done.stderr) == ("None C.UTF-8\n", "")

    def test_packages_of_the_users_own_are_not_for_them(self, python, tmp_path):
        """`pip install --user` of a Python of the same version puts them before those of the image."""
        packages = tmp_path / ".local/lib/python3.11/site-packages"
        packages.mkdir(parents=True)
        (packages / "PIL.py").write_text("")
        environment = {**os.environ, "HOME": str(tmp_path), "PYTHONHOME": "/nowhere", "PYTHONPATH": "/mine"}
        done = python("import sys, PIL; print('/mine' in sys.path, PIL.__version__)", env=environment)
        assert done.stdout.startswith("True "), done.stderr

    def test_a_gpus_driver_comes_along(self, model):
        """No test machine has one, so another library of this machine's stands in for the driver's."""
        shell = (model / ".tungsten/shell").resolve()
        (root,) = re.findall(rf"{store.place()}/\S+-root(?= )", (shell / "enter").read_text())
        inside = "import os; print(os.environ['LD_LIBRARY_PATH'], os.listdir('/.driver'))"
        script = f"""
import os, sys
sys.path.insert(0, {str(shell)!r})
import enter_shell
exists = os.path.exists
os.path.exists = lambda path: path == "/dev/nvidiactl" or exists(path)
enter_shell._DRIVER = ("libc.so.6",)
os.environ.update(PATH="/usr/bin", LD_LIBRARY_PATH="/images/own")
enter_shell.main([{root!r}, "python3", "-c", {inside!r}])
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout == "/.driver:/images/own ['libc.so.6']\n", done.stderr


class TestShell:
    def test_the_users_own_tools_stay_theirs(self, model):
        found = succeed("shell", model, "--", "sh", "-c", "command -v python3; command -v git; command -v ls")
        ours, *theirs = found.splitlines()
        assert ours == str((model / ".tungsten/shell").resolve() / "bin/python3")
        assert theirs == [shutil.which("git"), shutil.which("ls")]

    def test_again_nothing_is_built_and_the_status_is_the_commands(self, model):
        done = tungsten("shell", model, "--", "sh", "-c", "exit 3")
        assert (done.returncode, done.stderr) == (3, "")

    def test_python_path_is_not_the_machines(self, model):
        done = tungsten(
            "shell", model, "--", "python3", "-c", VERSIONS, env={"PYTHONPATH": f"{ROOT}:/nowhere"}
        )
        assert done.stdout == locked_versions(model)

    @pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
    def test_it_is_the_users_own_shell_and_comes_after_their_start_files(self, model, name, tmp_path):
        need(name)
        program = shutil.which(name)
        start = {
            "bash": (".bashrc", "export PATH=/first:$PATH; mine=yes"),
            "zsh": (".zshrc", "export PATH=/first:$PATH; mine=yes"),
            "fish": (".config/fish/config.fish", "set -gx PATH /first $PATH; set mine yes"),
        }
        file, text = start[name]
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text + "\n")
        environment = {**os.environ, "SHELL": program, "HOME": str(tmp_path)}
        environment.pop("ZDOTDIR", None)
        command = [*TUNGSTEN, "shell", str(model)]
        said = subprocess.run(
            command,
            input="command -v python3; echo mine=$mine\n",
            capture_output=True,
            text=True,
            env=environment,
            start_new_session=True,
            timeout=DEADLINE,
        )
        assert str((model / ".tungsten/shell").resolve() / "bin/python3") in said.stdout.splitlines()
        assert "mine=yes" in said.stdout
        assert "blur: Python 3.11 on Debian bookworm" in said.stderr

    def test_it_is_of_the_images_own_layers(self, model, blur):
        """What is unpacked is what the image's build uses, to the derivation."""
        (deriver,) = nix("nix-store", "--query", "--deriver", model / ".tungsten/shell").split()
        needed = nix("nix-store", "--query", "--requisites", deriver).split()
        layers = {path for path in needed if "-layer-" in path and path.endswith(".drv")}
        assert layers
        assert layers <= blur.requisites

    def test_a_machine_that_forbids_user_namespaces_is_told_before_anything_is_built(self, copy_of):
        folder = copy_of("blur")
        script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
        done = tungsten("shell", folder, before=["unshare", "-U", "-r", "sh", "-c", script, "sh"])
        assert done.returncode == 1
        assert "error: this machine does not allow user namespaces" in done.stderr
        assert "sysctl -w user.max_user_namespaces=" in done.stderr
        assert not (folder / ".tungsten").exists()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "blur"
    succeed("nix-export", model, "-o", folder)
    return folder


class TestNixAlone:
    @pytest.mark.parametrize("command", [["develop", "path:.", "--command"], ["run", "path:.#shell", "--"]])
    def test_in_an_export(self, exported, model, command):
        done = self.run(exported, *command, "python3", "-c", VERSIONS)
        assert done.stdout == locked_versions(model), done.stderr

    def test_in_this_repository(self, model, tmp_path):
        folder = checkout(tmp_path)
        shutil.copy(model / "tungsten.lock", folder / "examples" / "blur")
        done = self.run(folder, "develop", "path:.", "--command", "python3", "-c", VERSIONS)
        assert done.stdout == locked_versions(model), done.stderr

    def run(self, folder, subcommand, *arguments):
        # Without this, `nix develop` asks for nixpkgs' bash, and waits where it can't be reached.
        offline = ["--offline"] if subcommand == "develop" else []
        command = nix_line("nix", subcommand, *offline, *arguments)
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_direnv_loads_it_by_one_line(model, tmp_path):
    need("direnv")
    project = tmp_path / "project"
    shutil.copytree(model, project, symlinks=True)
    (project / ".envrc").write_text(f'eval "$({shlex.join(TUNGSTEN)} shell --print-env)"\n')
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT}/server"}
    subprocess.run(["direnv", "allow", project], env=environment, check=True, capture_output=True)
    command = ["direnv", "exec", project, "python3", "-c", VERSIONS]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == locked_versions(model), done.stderr


class TestServe:
    @pytest.fixture
    def served(self, model, tmp_path):
        """`tungsten serve --local --reload` inside the shell: its folder, its address, its log and its process."""
        port, log = free_port(), tmp_path / "log"
        inner = [*TUNGSTEN, "serve", str(model), "--local", "--reload", "-p", str(port)]
        command = [*TUNGSTEN, "shell", str(model), "--", "env", f"PYTHONPATH={ROOT}:{ROOT}/server", *inner]
        source = model / "tungsten_model.py"
        original = source.read_text()
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: process.poll() is not None or url in log.read_text(), "readiness")
            yield source, url, log
            process.terminate()
            assert process.wait(DEADLINE) == 0
        finally:
            source.write_text(original)
            process.kill()
            process.wait()
            print(log.read_text())

    def test_the_images_python_runs_the_model_and_new_code_answers(self, served):
        source, url, log = served

        def predict():
            picture = base64.b64encode((ROOT / "examples/picture.jpg").read_bytes()).decode()
            body = [{"image": f"data:image/jpeg;base64,{picture}"}]
            answer = requests.post(f"{url}/predict", json=body, timeout=DEADLINE).json()
            return answer["error_message"] or answer["status"]

        assert predict() == "success"
        text = source.read_text()
        # Which Python it is, and its schema.
        probe = "raise ValueError(__import__('sys').version_info[:2], __import__('PIL').__file__)"
        changed = text.replace("blur = Image", f"{probe}\n        blur = Image").replace("le=100", "le=77")
        source.write_text(changed)
        radius = wait_until(
            lambda: (
                (found := requests.get(url, timeout=DEADLINE).json()["input_schema"]["properties"]["radius"])[
                    "maximum"
                ]
                == 77
                and found
            ),
            "the new schema",
        )
        assert radius["default"] == 2.0
        assert predict() == "ValueError: ((3, 11), '/usr/local/lib/python3.11/dist-packages/PIL/__init__.py')"
        source.write_text(text + "\ndef broken(:\n")
        wait_until(lambda: "the code before it goes on" in log.read_text(), "the refusal")
        assert "SyntaxError" in log.read_text()
        assert predict().startswith("ValueError")
        source.write_text(text)
        wait_until(lambda: predict() == "success", "the old code again")


def test_reload_is_for_a_folder():
    done = tungsten("serve", ".", "--reload")
    assert done.returncode == 2
    assert "--reload needs --local" in done.stderr
