"""Why namespaces can't be had, by what was tried and by what the kernel shows."""

import errno
import os
import subprocess
import sys

import pytest

from tungstenkit.doctor import kernel
from tungstenkit.doctor.finding import State
from tungstenkit.lacks import Linux


def failed(step, number):
    return {"failed": step, "errno": number, "said": os.strerror(number)}


def proc(root, status="", mounts="", **settings):
    (root / "self").mkdir()
    (root / "self/status").write_text(status)
    (root / "self/mountinfo").write_text(mounts)
    for name, value in settings.items():
        path = root / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def test_what_can_be_made_is_fine(tmp_path):
    assert kernel.namespaces(Linux(), {"failed": ""}, proc(tmp_path)).state is State.OK


def test_what_could_not_be_tried_is_not_judged(tmp_path):
    found = kernel.namespaces(Linux(), {"failed": None, "said": "no answer"}, proc(tmp_path))
    assert (found.state, found.forbids_building) == (State.UNSURE, False)


@pytest.mark.parametrize(
    ("step", "number", "settings", "found", "command"),
    [
        (
            *("user", errno.ENOSPC, {"user__max_user_namespaces": 0}),
            "No space left on device: user.max_user_namespaces=0",
            "sysctl -w user.max_user_namespaces=100000",
        ),
        (
            *("nested", errno.ENOSPC, {"user__max_user_namespaces": 2}),
            "No space left on device: user.max_user_namespaces=2",
            "sysctl -w user.max_user_namespaces=100000",
        ),
        (
            *("user", errno.EPERM, {"kernel__unprivileged_userns_clone": 0}),
            "Operation not permitted: kernel.unprivileged_userns_clone=0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            *("ids", errno.EPERM, {"kernel__apparmor_restrict_unprivileged_userns": 1}),
            "Operation not permitted: kernel.apparmor_restrict_unprivileged_userns=1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_a_setting_that_forbids_them_is_named_and_changed(tmp_path, step, number, settings, found, command):
    one = kernel.namespaces(Linux(family="debian"), failed(step, number), proc(tmp_path, **settings))
    assert one.found == found
    assert [remedy.command for remedy in one.remedies] == [command]
    assert one.forbids_building


def test_a_masked_proc_is_the_container_s(tmp_path):
    mounts = "1 2 0:1 / /proc rw - proc proc rw\n3 1 0:2 / /proc/kcore rw - tmpfs tmpfs rw\n"
    mounts += "4 1 0:3 / /proc/acpi ro - tmpfs tmpfs ro\n"
    one = kernel.namespaces(
        Linux(container="podman"), failed("proc", errno.EPERM), proc(tmp_path, mounts=mounts)
    )
    assert "masked, in 2 places" in one.found
    assert "unmask=ALL" in one.remedies[0].says


@pytest.mark.parametrize("step", ["name", "proc"])
def test_a_filter_of_calls_is_told_of(tmp_path, step):
    one = kernel.namespaces(
        Linux(container="docker"),
        failed(step, errno.EPERM),
        proc(tmp_path, status="NoNewPrivs:\t0\nSeccomp:\t2\n"),
    )
    assert "by a seccomp filter perhaps" in one.found
    assert "seccomp=unconfined" in one.remedies[0].says


def test_where_nothing_is_known_all_that_may_help_is_told(tmp_path):
    one = kernel.namespaces(Linux(), failed("user", errno.EPERM), proc(tmp_path))
    assert "a user namespace is refused" in one.found
    assert "seccomp" not in one.found
    assert "kernel.unprivileged_userns_clone=1" in one.remedies[0].says


def test_a_kernel_without_them(tmp_path):
    assert "CONFIG_USER_NS" in kernel.namespaces(Linux(), failed("user", errno.EINVAL), proc(tmp_path)).found


@pytest.mark.parametrize(("container", "part"), [("", "another user"), ("podman", "--cap-add SYS_ADMIN")])
def test_root_without_its_capability(tmp_path, monkeypatch, container, part):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    one = kernel.namespaces(Linux(container=container), failed("root's", errno.EPERM), proc(tmp_path))
    assert "CAP_SYS_ADMIN" in one.found
    assert part in one.remedies[0].says
    assert one.forbids_building


@pytest.mark.parametrize("step", ["root's", "user", "ids", "mounts", "root", "proc", "name", "nested"])
def test_every_step_of_the_attempt_has_its_words(tmp_path, step):
    assert f'step = "{step}"' in kernel.ATTEMPT.read_text()
    assert kernel.namespaces(Linux(), failed(step, errno.EACCES), proc(tmp_path)).found


def test_the_attempt_says_what_is_so_here():
    """As busybox, unshare and others would find it."""
    tried = kernel.attempt()
    alone = subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True)
    if alone.returncode != 0:
        assert tried["failed"] == "user"
    else:
        assert tried["failed"] in ("", "root's", "proc", "name", "mounts", "nested", "root")


def test_a_python_without_what_its_system_lacked_is_told(monkeypatch):
    assert kernel.python().state is State.OK
    monkeypatch.setitem(sys.modules, "lzma", None)
    found = kernel.python()
    assert "which has no lzma" in found.found
    assert found.forbids_building
