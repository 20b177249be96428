"""Who is told a step's secrets: once, who knows the word and may build."""

import os
import socket
from types import SimpleNamespace

import pytest

from tungstenkit.seal import step_secrets
from tungstenkit.seal.step_secrets import serve_secrets


def ask(place, nonce=None):
    address, right = place.split(" ")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(f"\0{address}")
        sock.sendall((nonce or right).encode())
        return sock.recv(1000)


def test_secrets_are_served_once_to_who_knows_the_word():
    with serve_secrets({"A": "secret"}) as place:
        assert ask(place, "0" * 32) == b""
        assert ask(place) == b'{"A": "secret"}'
        with pytest.raises(OSError, match="refused"):
            ask(place)
    with pytest.raises(OSError, match="refused"):
        ask(place)


def test_secrets_are_not_served_to_another_user(monkeypatch):
    monkeypatch.setattr(step_secrets, "_may_ask", lambda uid: False)
    with serve_secrets({"A": "secret"}) as place:
        assert ask(place) == b""


def test_who_may_ask(monkeypatch):
    """We, root, and Nix's build users, as a daemon has them."""
    one, other = socket.socketpair()
    with one, other:
        assert step_secrets._uid_of(one) == os.geteuid()
    builders = {"nixbld1": 30001, "nixbld2": 30002}
    monkeypatch.setattr(step_secrets.grp, "getgrnam", lambda name: SimpleNamespace(gr_mem=list(builders)))
    monkeypatch.setattr(step_secrets.pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=builders[name]))
    asked = {uid: step_secrets._may_ask(uid) for uid in (0, os.geteuid(), 30002, 30003, 0x34000001)}
    assert asked == {0: True, os.geteuid(): True, 30002: True, 30003: False, 0x34000001: True}


def test_without_build_users_nobody_else_may_ask(monkeypatch):
    def none(name):
        raise KeyError(name)

    monkeypatch.setattr(step_secrets.grp, "getgrnam", none)
    assert not step_secrets._may_ask(30001)


def test_without_variables_nobody_is_asked():
    with serve_secrets({}) as place:
        assert place == ""
