"""A shell has the programs that the model asked for; its root is the image's, and what forbids it is said."""

import importlib
import subprocess
import sys

import pytest

from tests.machine import needs
from tests.nix.conftest import TOOLS

PATH = "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def shell_programs():
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("shell_programs")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def enter_shell():
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("enter_shell")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture
def root(tmp_path):
    """An image's root: an essential package, a required one, one that was asked for, Python and a wheel's program."""
    root = tmp_path / "root"
    packages = {
        "dash": ("Essential: yes", ["bin/dash"]),
        "mount": ("Priority: required", ["usr/bin/mount"]),
        "ffmpeg": ("Priority: optional", ["usr/bin/ffmpeg", "usr/bin/notes.txt"]),
    }
    for name, (field, files) in packages.items():
        listed = root / "var/lib/dpkg/status.d" / name
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(f"Package: {name}\nVersion: 1\n{field}\n")
        sums = "".join(f"{'0' * 32}  {file}\n" for file in files)
        listed.with_name(f"{name}.md5sums").write_text(sums)
    for name in (
        "usr/bin/dash",
        "usr/bin/mount",
        "usr/bin/ffmpeg",
        "usr/bin/python3.11",
        "usr/local/bin/tool",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
        (root / name).chmod(0o755)
    (root / "usr/bin/notes.txt").write_text("")
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "usr/bin/python3").symlink_to("python3.11")
    (root / "etc/alternatives").mkdir(parents=True)
    (root / "usr/bin/play").symlink_to("/etc/alternatives/play")
    (root / "etc/alternatives/play").symlink_to("/usr/bin/ffmpeg")
    (root / "usr/bin/gone").symlink_to("/usr/bin/nothing")
    (root / "usr/bin/round").symlink_to("round")
    return root


class TestPrograms:
    def test_those_of_every_system_are_left_to_the_machine(self, shell_programs, root):
        """Debian policy, 2.5 and 3.8; a link is what it leads to, as who lives in the root sees it."""
        assert shell_programs.programs(root, PATH) == ["ffmpeg", "play", "python3", "python3.11", "tool"]

    def test_a_base_images_packages_are_listed_in_one_file(self, shell_programs, root):
        folder = root / "var/lib/dpkg"
        texts = [path.read_text() for path in sorted((folder / "status.d").glob("*")) if path.suffix == ""]
        (folder / "status").write_text("\n".join(texts))
        (folder / "status.d").rename(folder / "info")
        assert "sh" not in shell_programs.programs(root, PATH)
        assert "ffmpeg" in shell_programs.programs(root, PATH)


def test_variables_that_no_shell_can_set_are_left_out(run_tool, root, tmp_path):
    """A base image's may have any name."""
    config = {
        "root": str(root),
        "interpreter": "/usr/bin/python3.11",
        "version": "3.11",
        "variables": {"PATH": PATH, "OK": "it's", "a.b": "1", "A;touch made;B": "1"},
        "busybox": "/bin/busybox",
        "python": [sys.executable],
        "program": str(TOOLS / "enter_shell.py"),
        "name": "m",
        "title": "a model",
    }
    done = run_tool("shell_programs.py", config, tmp_path / "shell")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "shell" / "enter").read_text().splitlines()
    assert "export OK='it'\"'\"'s'" in lines
    assert not any("a.b" in line or "made" in line for line in lines)


class TestForbidden:
    """The kernel's settings are stood in for by files, as this machine's can't be changed for a test."""

    @pytest.fixture
    def settings(self, tmp_path):
        def write(**values):
            for name, value in values.items():
                file = tmp_path / name.replace("__", "/")
                file.parent.mkdir(exist_ok=True)
                file.write_text(f"{value}\n")
            return str(tmp_path)

        return write

    @pytest.mark.parametrize(
        ("setting", "forbids", "remedy"),
        [
            ("kernel__unprivileged_userns_clone", 0, "sysctl -w kernel.unprivileged_userns_clone=1"),
            (
                "kernel__apparmor_restrict_unprivileged_userns",
                1,
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            ("user__max_user_namespaces", 0, "sysctl -w user.max_user_namespaces=15000"),
        ],
    )
    def test_the_setting_that_forbids_is_named(self, enter_shell, settings, setting, forbids, remedy):
        assert f"`{remedy}`" in enter_shell._remedy(settings(**{setting: forbids}))
        assert "sysctl" not in enter_shell._remedy(settings(**{setting: 1 - forbids}))

    def test_without_one_a_container_is_thought_of(self, enter_shell, settings):
        wanted = "`--security-opt seccomp=unconfined --security-opt unmask=ALL`"
        assert wanted in enter_shell._remedy(settings())

    @needs("root")
    def test_a_kernel_that_forbids_them_ends_it_with_126(self):
        """In a user namespace in which no more may be made, and without the capability to do without."""
        check = f"import sys; sys.path.insert(0, {str(TOOLS)!r}); import enter_shell; enter_shell.main(['--check'])"
        script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
        command = ["unshare", "-U", "-r", "sh", "-c", script, "sh", sys.executable, "-c", check]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 126
        assert done.stderr.startswith("error: this machine does not allow user namespaces")
        assert "`sysctl -w user.max_user_namespaces=15000`" in done.stderr
