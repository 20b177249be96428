"""An archive as the programs under test meet it: served on loopback, and named by their environment."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.frozen.archive import Archive
from tests.frozen.take import TAKEN
from tungstenkit.debian.index import ARCHIVES
from tungstenkit.debian.release import RELEASES

TUNGSTEN = [sys.executable, str(Path(__file__).with_name("tungsten.py"))]
"""The command line that believes the archive's key, which `Served.environment` names."""


@dataclass
class Served:
    """A published archive."""

    archive: Archive
    url: str
    keys: Path
    environment: dict = field(init=False)
    """What makes it the only place that a `TUNGSTEN` of ours knows; None is a variable that is not to be set."""

    def __post_init__(self):
        """Name every kind of mirror, and leave nothing to this machine's configuration."""
        self.environment = {
            "TUNGSTEN_MIRROR_DEBIAN": f"{self.url}/debian",
            "TUNGSTEN_MIRROR_DEBIAN_SECURITY": f"{self.url}/debian-security",
            "TUNGSTEN_MIRROR_PYPI": f"{self.url}/pypi/simple",
            "TUNGSTEN_MIRROR_NPM": f"{self.url}/npm",
            "TUNGSTEN_SECURITY_TRACKER": f"{self.url}/tracker.json",
            "TUNGSTEN_TESTS_KEYS": str(self.keys),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": None,
            "PIP_EXTRA_INDEX_URL": None,
            "XDG_CACHE_HOME": str(TAKEN / "cache"),
        }

    def set(self, environ=os.environ):
        """Put it into an environment."""
        for name, value in self.environment.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value


def write_keys(folder, key):
    """What `tungsten.py` reads: the key, pinned for every release and archive."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = key.extract_certificate()
    (folder / "key.pgp").write_bytes(bytes(certificate))
    pins = [
        {"archive": name, "fingerprint": certificate.fingerprint, "releases": [*RELEASES]}
        for name in ARCHIVES
    ]
    (folder / "archive_keys.json").write_text(json.dumps({"keys": pins}))
    return folder


@contextlib.contextmanager
def serve(archive):
    """Serve an archive that was published."""
    # Nothing is known to be wrong with its packages.
    (archive.folder / "tracker.json").write_text("{}")
    keys = archive.folder.with_name(f"{archive.folder.name}-keys")
    command = [sys.executable, Path(__file__).with_name("serve.py"), archive.folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        yield Served(archive, f"http://127.0.0.1:{port}", write_keys(keys, archive.key))
        server.kill()
