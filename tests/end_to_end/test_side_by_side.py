"""Two steps of a build run at the same time: each records that it has met the other."""

import hashlib
import secrets
import socket
import threading
from contextlib import contextmanager

import pytest

from tests.end_to_end.harness import derivation
from tests.tungstenkit.observers import View
from tungstenkit import store
from tungstenkit.machine import Room
from tungstenkit.nix_build import process
from tungstenkit.nix_build.process import run_build
from tungstenkit.sdk.errors import BuildError

TOGETHER = b"together"
# A step of a known result has the machine's network, as `post_build` has. What it makes is what it was told there.
STEPS = """
let
  busybox = builtins.storePath "{busybox}";
  step = name: derivation {{
    inherit name busybox;
    system = builtins.currentSystem;
    builder = "${{busybox}}/bin/busybox";
    args = [ "sh" "-c" "$busybox/bin/busybox nc 127.0.0.1 {port} < /dev/null > $out" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "{sha256}";
  }};
in
{{
  first = step "first-{salt}";
  second = step "second-{salt}";
}}
"""


@contextmanager
def meeting(patience):
    """A port that tells two who are there at once so, and who is alone for so many seconds nothing."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()

        def answer():
            while True:
                try:
                    port.settimeout(None)
                    first, _ = port.accept()
                    with first:
                        port.settimeout(patience)
                        try:
                            second, _ = port.accept()
                        except TimeoutError:
                            continue
                        with second:
                            first.sendall(TOGETHER)
                            second.sendall(TOGETHER)
                except OSError:
                    return

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield port.getsockname()[1]
        finally:
            port.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def run_both(blur, tmp_path, monkeypatch):
    """Builds two steps that wait so long for each other, on a machine of two processors."""
    (layout,) = derivation(blur.derivation)
    busybox = layout["builder"].removesuffix("/bin/busybox")
    monkeypatch.setattr(process, "processors", lambda: 2)
    monkeypatch.setattr(process, "memory", lambda: Room(8 << 30, 8 << 30))

    def run(patience):
        with meeting(patience) as port:
            given = {"busybox": busybox, "port": port, "salt": secrets.token_hex(8)}
            (tmp_path / "steps.nix").write_text(
                STEPS.format(sha256=hashlib.sha256(TOGETHER).hexdigest(), **given)
            )
            run_build(["--file", "steps.nix", "first", "second", "--no-link"], View(), tmp_path)

    return run


def test_two_steps_meet(run_both, monkeypatch):
    monkeypatch.setattr(store, "configured", set)
    run_both(patience=120)


def test_where_nixs_own_configuration_says_one_they_dont(run_both, monkeypatch):
    monkeypatch.setenv("NIX_CONFIG", "max-jobs = 1")
    with pytest.raises(BuildError, match="hash mismatch"):
        run_both(patience=3)
