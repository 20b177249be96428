"""Hands values that are written down nowhere to a step of a build, whoever Nix runs it as."""

from __future__ import annotations

import grp
import json
import os
import pwd
import secrets
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PATIENCE = 10.0  # seconds
_ALLOCATED = range(0x34000000, 0x34000000 + 0x800000)
"""The ids that Nix takes for builds by `auto-allocate-uids` (Nix manual, `start-id` and `id-count`)."""


@contextmanager
def serve_secrets(values: Mapping[str, str]) -> Iterator[str]:
    """Answer a step that asks for some values, once: `ADDRESS NONCE` for it; empty where there are none.

    A daemon builds with its own environment, and what a derivation names can be read by everyone. The step shares this
    machine's network, so an abstract socket reaches it (unix(7)); who asks is known by the kernel.
    """
    if not values:
        yield ""
        return
    address, nonce = f"tungsten-{secrets.token_hex(16)}", secrets.token_hex(16)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0{address}")
        sock.listen()
        thread = threading.Thread(target=_serve, args=(sock, nonce, values), daemon=True)
        thread.start()
        try:
            yield f"{address} {nonce}"
        finally:
            with suppress(OSError):  # it has answered
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(sock: socket.socket, nonce: str, values: Mapping[str, str]) -> None:
    """Answer until the right one has asked, or the socket is shut."""
    while True:
        try:
            peer, _ = sock.accept()
        except OSError:
            return
        with peer:
            peer.settimeout(_PATIENCE)
            try:
                asked = peer.recv(len(nonce))
                if _may_ask(_uid_of(peer)) and secrets.compare_digest(asked, nonce.encode()):
                    sock.close()  # nobody is told twice
                    peer.sendall(json.dumps(dict(values)).encode())
                    return
            except OSError:
                continue


def _uid_of(peer: socket.socket) -> int:
    """Whose process is at the other end (socket(7), SO_PEERCRED)."""
    _, uid, _ = struct.unpack(
        "3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return int(uid)


def _may_ask(uid: int) -> bool:
    """Whether a user is we, root, or one of Nix's build users."""
    if uid in (0, os.geteuid()) or uid in _ALLOCATED:
        return True
    try:
        builders = grp.getgrnam("nixbld").gr_mem
    except KeyError:
        return False
    for name in builders:
        with suppress(KeyError):
            if pwd.getpwnam(name).pw_uid == uid:
                return True
    return False
