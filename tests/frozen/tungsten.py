"""The command line for tests: `tungsten`, which believes the key of the tests' own archive and no other.

    TUNGSTEN_TESTS_KEYS=FOLDER python tests/frozen/tungsten.py lock …

FOLDER holds `archive_keys.json` and the key. An installed tungsten has no such file, and reads no such variable:
its keys are those that came with it (`tests/frozen/test_archive.py` tries).
"""

import os
from pathlib import Path

from tungstenkit.debian import release


def believe(folder):
    """Put the keys in a folder in the place of Debian's."""
    release.PINNED = folder / "archive_keys.json"
    release.KEYRING_FOLDERS = (folder,)


def run():
    """Be the command line."""
    believe(Path(os.environ["TUNGSTEN_TESTS_KEYS"]))
    from tungstenkit.cli.main import main

    main()


if __name__ == "__main__":
    run()
