"""The Debian packages that are in images by a rule of ours, and by nobody's wish; `needed-by` has the rule's name."""

BASE = (
    "base-files",
    "ca-certificates",
    # `os.system` and `subprocess.run(…, shell=True)` in a model need `/bin/sh`.
    "dash",
    "libc-bin",
    "libc6",
    # Wheels may take these from the system (PEP 600, and what manylinux images hold).
    "libgomp1",
    "libstdc++6",
    "media-types",
    "netbase",
    "tini",
    "tzdata",
    "zlib1g",
)
"""What every image's root holds, beside Python."""

ESSENTIAL = (
    "bash",
    "coreutils",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "sed",
    "tar",
)
"""What Debian's packages use without naming it (Debian policy, 3.8), but for what only installs packages."""
