"""Under what conditions a step's own code runs: as every build runs it, or on purpose otherwise.

What code makes must not depend on the clock, on the order of sets, on how many CPUs there are or on what they can do.
Sealing runs it a second time with all of that changed, and compares. Nothing here is read by an image.
"""

from __future__ import annotations

import os
import platform
from typing import Any

_SHIFT = (
    "+26h"  # another hour, day and weekday; in the future, because new certificates are not valid in the past
)

# Where a library chooses its code by what the CPU can do, it can be told to take the oldest; all that have such a
# switch and whose results are known to differ. What a library does not know it ignores.
_OLDEST = {
    "aarch64": {"OPENBLAS_CORETYPE": "ARMV8"},
    "x86_64": {
        # glibc's manual, "Hardware Capability Tunables"
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-FMA,-FMA4",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        # NumPy's manual, "CPU/SIMD optimizations": by feature before 2.4, by group from then on
        "NPY_DISABLE_CPU_FEATURES": "AVX F16C FMA3 AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
        " AVX512_SPR X86_V3 X86_V4",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "PRESCOTT",
    },
}
_OLDEST_EVERYWHERE = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}

_THREADS = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class Variation:
    """The conditions of one run."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Read them: `again` says whether it is the run with everything changed, `baseline` whether every run uses one
        thread and the oldest instructions, and `fake-time` is the path of libfaketime's library, or null.
        """
        self._again: bool = config["again"]
        self._baseline: bool = config["baseline"]
        self._fake_time: str | None = config["fake-time"]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process, and what it starts, run so."""
        variables = {"PYTHONHASHSEED": "26" if self._again else "0"}
        if self._again or self._baseline:
            variables |= {**_OLDEST_EVERYWHERE, **_OLDEST.get(platform.machine(), {})}
        if self._baseline:
            variables |= dict.fromkeys(_THREADS, "1")
        if self._again and self._fake_time:
            variables |= {
                "LD_PRELOAD": self._fake_time,
                "FAKETIME": _SHIFT,
                # Waiting must take as long as it says, and a file's time be what its maker set.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_FORCE_MONOTONIC_FIX": "0",
                "NO_FAKE_STAT": "1",
            }
        return variables

    def enter(self) -> None:
        """Let this process, and what it starts, use as many CPUs as it may."""
        if self._again or self._baseline:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
