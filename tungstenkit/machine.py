"""What this machine has: processors, memory, memory on its GPUs; and of the last two, what a model lacks.

A declaration's GB are 10**9 bytes. A shortage is said, not refused.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tungstenkit.sdk.errors import RunError

GB = 10**9
_MIB = 2**20


@dataclass(frozen=True)
class Needs:
    """What a model declares."""

    mem_gb: float
    gpu: bool
    gpu_mem_gb: float


@dataclass(frozen=True)
class Room:
    """Of one kind of memory, in bytes."""

    total: int
    free: int


def memory(root: Path = Path("/")) -> Room | None:
    """The memory that this process may have: the machine's, or its control group's limit where that is less.

    root: where `proc` and `sys` are. None where they don't say.
    """
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return None
    total, free = (re.search(rf"(?m)^{name}: +(\d+) kB$", text) for name in ("MemTotal", "MemAvailable"))
    if total is None or free is None:
        return None
    limit = min([int(total[1]) * 1024, *_control_group_limits(root)])
    return Room(limit, min(limit, int(free[1]) * 1024))


def processors(root: Path = Path("/")) -> int:
    """How many this process may use: those that it may run on, or its control group's share where that is less.

    root: as for `memory`.
    """
    shares = [len(os.sched_getaffinity(0))]
    for folder in _control_groups(root):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            shares.append(math.ceil(int(quota) / int(period)))
        except (OSError, ValueError):
            continue  # the root has no share, and `max` is all
    return max(1, min(shares))


def _control_group_limits(root: Path) -> list[int]:
    limits = []
    for folder in _control_groups(root):
        try:
            limits.append(int((folder / "memory.max").read_text()))
        except (OSError, ValueError):
            continue  # the root has no limit, and `max` is none
    return limits


def _control_groups(root: Path) -> list[Path]:
    """The folders of this process's control group and of all above it (cgroups(7), version 2)."""
    mount = root / "sys/fs/cgroup"
    try:
        path = (root / "proc/self/cgroup").read_text().strip().rpartition("::")[2]
    except OSError:
        return []
    group = mount / path.strip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(mount)]


def gpu_memory(devices: str) -> Room | None:
    """The memory of NVIDIA GPUs taken together, as `nvidia-smi` has it; None where there is none to ask.

    devices: `all`, or numbers or UUIDs with commas between them. Raises RunError where one of them isn't there.
    """
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    if devices != "all":
        command.append(f"--id={devices}")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RunError(
            f"nvidia-smi can't say what GPUs there are: {(run.stdout + run.stderr).strip()}",
            where="--gpu-devices",
            hint="`nvidia-smi -L` lists them; --no-gpu runs the model without",
        )
    try:
        rows = [[int(number) * _MIB for number in line.split(",")] for line in run.stdout.splitlines()]
        return Room(sum(total for total, _ in rows), sum(free for _, free in rows))
    except ValueError:
        return None  # a GPU that shares the machine's memory says `[N/A]`


def shortages(needs: Needs, room: Room | None, gpu_room: Room | None) -> list[str]:
    """What the machine lacks, in words for people. No reason to refuse: 8 GB are declared for every model that
    declares nothing.

    room, gpu_room: what there is; None is not compared.
    """
    kinds = [("mem_gb", "memory", needs.mem_gb, room)]
    if needs.gpu:
        kinds.append(("gpu_mem_gb", "GPU memory", needs.gpu_mem_gb, gpu_room))
    short = []
    for argument, kind, wanted, there in kinds:
        if there is None:
            continue
        if there.total < wanted * GB:
            short.append(
                f"the machine has {there.total / GB:.1f} GB of {kind}; the model declares {argument}={wanted:g}"
            )
        elif there.free < wanted * GB:
            free = f"{there.free / GB:.1f} of {there.total / GB:.1f}"
            short.append(f"{free} GB of {kind} are free now; the model declares {argument}={wanted:g}")
    return short
