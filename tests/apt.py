"""apt as the reference for Debian solves: what it would install in an empty root, from the same archives.

    python -m tests.apt [--release trixie] [--count 250] [--seed 1]

draws packages from every section of the archive and prints each difference between apt's answer and ours.
"""

import argparse
import random
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from tungstenkit.debian.index import Trust, fetch_index, suites
from tungstenkit.debian.solve import DebSolver
from tungstenkit.fetch.machine_mirrors import find_mirrors
from tungstenkit.fetch.web import get_bytes
from tungstenkit.sdk.errors import ResolveError


class Apt:
    """apt with a configuration of its own, no installed packages, and one release's suites."""

    def __init__(self, root, release, bases, certs=None):
        """certs: the keys to believe for each archive (default: those of the machine's apt)."""
        folders = ("preferences.d", "sources.list.d")
        for folder in (
            *(f"etc/{f}" for f in folders),
            "state/lists/partial",
            "cache/archives/partial",
            "parts",
        ):
            (root / folder).mkdir(parents=True)
        (root / "status").write_text("")
        signed = ""
        if certs:
            keys = [key for found in certs.values() for key in found]
            (root / "keys.gpg").write_bytes(b"".join({bytes(key) for key in keys}))
            signed = f" [signed-by={root}/keys.gpg]"
        lines = [f"deb{signed} {bases[archive][0]} {suite} main\n" for archive, suite in suites(release)]
        (root / "etc/sources.list").write_text("".join(lines))
        settings = {
            "Dir::Etc": root / "etc",
            "Dir::Etc::Parts": root / "parts",
            "Dir::Etc::TrustedParts": "/etc/apt/trusted.gpg.d",
            "Dir::State": root / "state",
            "Dir::State::status": root / "status",
            "Dir::Cache": root / "cache",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
        }
        self._flags = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        subprocess.run(["apt-get", *self._flags, "-qq", "update"], check=True)
        self._cache("gencaches")

    def _cache(self, command):
        done = subprocess.run(
            ["apt-cache", *self._flags, command], check=True, capture_output=True, text=True
        )
        return done.stdout

    def install(self, requests):
        """Versions by package, or apt's complaint."""
        command = ["apt-get", *self._flags, "--no-install-recommends", "-s", "install", *requests]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return done.stdout[-2000:] + done.stderr
        return dict(re.findall(r"^Inst (\S+) \((\S+) ", done.stdout, re.MULTILINE))

    def sections(self):
        """Package names by section."""
        found = defaultdict(set)
        for stanza in self._cache("dumpavail").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Section): (\S+)$", stanza, re.MULTILINE))
            if fields:
                found[fields.get("Section", "")].add(fields["Package"])
        return {section: sorted(names) for section, names in sorted(found.items())}


def compare(apt, solver, name):
    """How our answer differs from apt's, and whether for our choices alone: then apt agrees once it is told them.

    Where one of several packages will do, apt takes the first that it comes across; we take what something else needs
    anyway, then one of that very name, or else the first by Priority and name.
    """
    theirs = apt.install([name])
    try:
        solution = solver.solve({"system": [name]})
    except ResolveError as problem:
        return ("", True) if isinstance(theirs, str) else (f"we refuse: {problem}", False)
    mine = {deb.name: deb.version for deb in solution.debs}
    if isinstance(theirs, str):
        return f"apt refuses: {theirs}", False
    told, answer = {name, *(one.chosen for one in solution.decisions)}, theirs
    for _ in range(3):
        if answer == mine or isinstance(answer, str):
            break
        told |= mine.keys() - answer.keys()
        answer = apt.install(sorted(told))
    parts = [f"+{name}" for name in sorted(mine.keys() - theirs.keys())]
    parts += [f"-{name}" for name in sorted(theirs.keys() - mine.keys())]
    parts += [
        f"{name} {mine[name]} for {theirs[name]}"
        for name in sorted(mine.keys() & theirs.keys())
        if mine[name] != theirs[name]
    ]
    return " ".join(parts), answer == mine


def draw(sections, count, seed):
    """So many packages, evenly from all sections."""
    chance = random.Random(seed)
    shuffled = [chance.sample(names, len(names)) for names in sections.values()]
    rounds = (names[number] for number in range(count) for names in shuffled if number < len(names))
    return [name for name, _ in zip(rounds, range(count), strict=False)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--release", default="trixie")
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    mirrors = find_mirrors()
    bases = mirrors.debian_bases
    solver = DebSolver(fetch_index(arguments.release, "amd64", bases, get_bytes, Trust(mirrors.found)), {})
    with tempfile.TemporaryDirectory() as root:
        apt = Apt(Path(root), arguments.release, bases)
        sections = apt.sections()
        names = draw(sections, arguments.count, arguments.seed)
        counts = Counter()
        for name in names:
            text, on_purpose = compare(apt, solver, name)
            kind = "the same" if not text else "other choices" if on_purpose else "UNEXPLAINED"
            counts[kind] += 1
            if text:
                print(f"{kind}: {name}: {text}", flush=True)
    print(f"{arguments.release}: {len(names)} packages of {len(sections)} sections: {dict(counts)}")


if __name__ == "__main__":
    main()
