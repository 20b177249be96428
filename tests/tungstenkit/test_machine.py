"""What a model needs against what a machine has."""

import os

import pytest

from tungstenkit.machine import GB, Needs, Room, gpu_memory, memory, processors, shortages
from tungstenkit.sdk.errors import RunError

SMALL = Needs(mem_gb=2, gpu=False, gpu_mem_gb=16)
ON_GPU = Needs(mem_gb=2, gpu=True, gpu_mem_gb=16)
PLENTY = Room(64 * GB, 32 * GB)


@pytest.fixture
def root(tmp_path):
    """A machine with 8 GiB, 4 of them free, and a control group below another."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    (tmp_path / "sys/fs/cgroup/outer/inner").mkdir(parents=True)
    return tmp_path


def test_the_machines_memory(root):
    assert memory(root) == Room(8 * 2**30, 4 * 2**30)


@pytest.mark.parametrize("group", ["", "outer", "outer/inner"])
def test_a_limit_of_any_control_group_above_counts(root, group):
    (root / "sys/fs/cgroup" / group / "memory.max").write_text(f"{2**30}\n")
    assert memory(root) == Room(2**30, 2**30)


def test_max_is_no_limit(root):
    (root / "sys/fs/cgroup/outer/memory.max").write_text("max\n")
    assert memory(root) == Room(8 * 2**30, 4 * 2**30)


def test_where_nothing_is_said_nothing_is_known(tmp_path):
    assert memory(tmp_path) is None


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        ("max 100000", 6),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("900000 100000", 6),
    ],
)
@pytest.mark.parametrize("group", ["outer", "outer/inner"])
def test_processors_are_those_of_the_process_and_of_its_control_groups(
    root, monkeypatch, group, share, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(6)))
    assert processors(root) == 6
    (root / "sys/fs/cgroup" / group / "cpu.max").write_text(f"{share}\n")
    assert processors(root) == expected


def test_enough_is_no_news():
    assert shortages(SMALL, PLENTY, None) == []


def test_a_machine_that_is_full_now_is_a_notice():
    (notice,) = shortages(SMALL, Room(8 * GB, GB), None)
    assert "1.0 of 8.0 GB of memory are free" in notice
    assert "mem_gb=2" in notice


def test_a_machine_that_is_too_small_is_told_so():
    (notice,) = shortages(SMALL, Room(GB, GB), None)
    assert notice == "the machine has 1.0 GB of memory; the model declares mem_gb=2"


def test_gpu_memory_counts_where_the_model_wants_a_gpu():
    assert shortages(SMALL, PLENTY, Room(GB, GB)) == []
    assert "of GPU memory" in shortages(ON_GPU, PLENTY, Room(8 * GB, GB))[0]
    assert shortages(ON_GPU, PLENTY, None) == []


def test_both_shortages_are_told_at_once():
    assert len(shortages(ON_GPU, Room(GB, GB), Room(GB, GB))) == 2


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a program of that name first on PATH."""

    def put(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


def test_gpus_are_taken_together(nvidia_smi):
    nvidia_smi("echo 16384, 1024; echo 16384, 2048")
    assert gpu_memory("all") == Room(32 * 2**30, 3 * 2**30)


def test_only_the_chosen_gpus_are_asked_for(nvidia_smi):
    nvidia_smi('case "$*" in *--id=1) echo 1024, 512;; *) exit 1;; esac')
    assert gpu_memory("1") == Room(2**30, 2**29)


def test_a_gpu_that_is_not_there_is_told_in_nvidia_smis_words(nvidia_smi):
    nvidia_smi("echo No devices were found; exit 6")
    with pytest.raises(RunError, match="No devices were found"):
        gpu_memory("7")


def test_without_nvidia_smi_or_numbers_nothing_is_known(nvidia_smi, monkeypatch):
    nvidia_smi("echo '[N/A], [N/A]'")
    assert gpu_memory("all") is None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gpu_memory("all") is None
