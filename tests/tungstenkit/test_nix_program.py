"""Which Nix is started, for which store; and what is told where there is none, or no place for one."""

import os
from pathlib import Path

import pytest

from tungstenkit import nix_program
from tungstenkit.sdk.errors import BuildError, TungstenError

STORE = {"NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_LOCALSTATE_DIR"}


@pytest.fixture
def programs(tmp_path):
    """A folder with a Nix that does nothing."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("nix", "nix-store"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def _wishless(monkeypatch):
    for name in ("TUNGSTEN_NIX", "TUNGSTEN_HOME", *STORE, "NIX_REMOTE"):
        monkeypatch.delenv(name, raising=False)


class TestHome:
    """Where what is the same for all models is kept."""

    @pytest.mark.parametrize(
        ("environ", "place"),
        [
            ({}, "user/.local/share/tungsten"),
            ({"XDG_DATA_HOME": "/data"}, "/data/tungsten"),
            ({"XDG_DATA_HOME": "data"}, "user/.local/share/tungsten"),
            ({"XDG_DATA_HOME": "/data", "TUNGSTEN_HOME": "/mine"}, "/mine"),
        ],
    )
    def test_it_is_where_the_user_says(self, environ, place, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "user"))
        assert nix_program.home(environ) == tmp_path / place

    @pytest.mark.parametrize("named", ["here", "/", "/tmp/.."])
    def test_what_is_no_folder_of_its_own_is_refused(self, named):
        """Below `/` it would be `/nix`."""
        with pytest.raises(TungstenError, match="no folder for tungsten") as caught:
            nix_program.home({"TUNGSTEN_HOME": named})
        assert caught.value.where == "TUNGSTEN_HOME"


class TestChoice:
    """The Nix that a wish comes to."""

    @pytest.fixture(autouse=True)
    def _root(self, monkeypatch):
        monkeypatch.setattr(nix_program.os, "geteuid", lambda: 0)

    def test_the_machine_s_is_used_where_there_is_one(self, programs):
        nix = nix_program.choose("", {"PATH": str(programs)})
        assert (nix.folder, dict(nix.variables), nix.is_own, nix.is_absent) == (None, {}, False, False)
        assert nix.line(["nix", "build"]) == ["nix", "build"]
        assert nix.for_a_shell(["nix", "build"]) == "nix build"

    def test_else_ours(self, tmp_path):
        environ = {"PATH": str(tmp_path), "TUNGSTEN_HOME": str(tmp_path)}
        nix = nix_program.choose("", environ)
        assert nix.is_own
        assert nix.is_absent
        assert nix.folder.is_relative_to(tmp_path / "nix" / "own")
        # Where it is not, a line is for another machine.
        assert nix.for_a_shell(["nix", "build"]) == "nix build"
        nix.folder.mkdir(parents=True)
        # A script that names another folder is of one that was there before.
        (nix.folder / "nix").write_text("exec /else/where/nix")
        assert nix.is_absent
        (nix.folder / "nix").write_text(f"exec {nix.folder.parent}/lib/nix")
        assert not nix.is_absent
        assert nix.for_a_shell(["nix", "build"]) == f"{nix.folder}/nix build"

    def test_a_wish_comes_before_what_is_there(self, programs, tmp_path):
        environ = {"PATH": str(programs), "TUNGSTEN_HOME": str(tmp_path)}
        assert nix_program.choose("own", environ).is_own
        assert not nix_program.choose("machine", {"PATH": str(tmp_path)}).is_own
        nix = nix_program.choose(str(programs / "nix"), {"PATH": str(tmp_path)})
        assert not nix.is_own
        assert nix.line(["nix-store", "-q"]) == [f"{programs}/nix-store", "-q"]

    def test_the_user_s_wish_comes_before_the_model_s(self, programs, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path))
        assert not nix_program.current().is_own
        nix_program.set_wish("own")
        assert nix_program.current().is_own
        monkeypatch.setenv("TUNGSTEN_NIX", "machine")
        assert not nix_program.current().is_own

    def test_a_process_has_one_nix(self, programs, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setenv("TUNGSTEN_HOME", str(tmp_path))
        for wish in ("", "machine", ""):
            nix_program.set_wish(wish)  # the same comes of them
        with pytest.raises(TungstenError, match="one Nix") as caught:
            nix_program.set_wish("own")
        assert "TUNGSTEN_NIX=own" in caught.value.hint
        assert not nix_program.current().is_own
        monkeypatch.setenv("TUNGSTEN_NIX", "own")
        nix_program.set_wish("own")
        assert nix_program.current().is_own

    @pytest.mark.parametrize("wish", ["nix", "/no/such/nix", "ours", "/bin/sh"])
    def test_a_wish_for_what_is_no_nix_is_told(self, wish):
        with pytest.raises(TungstenError, match="is not the path of a `nix`") as caught:
            nix_program.choose(wish, {})
        assert caught.value.where == "TUNGSTEN_NIX"
        assert "TUNGSTEN_NIX=own" in caught.value.hint

    def test_a_store_that_somebody_has_named_is_ours_too(self, tmp_path):
        environ = {"TUNGSTEN_HOME": str(tmp_path), "NIX_STORE_DIR": "/a", "NIX_REMOTE": "daemon"}
        nix = nix_program.choose("own", environ)
        assert nix.variables["NIX_STORE_DIR"] == "/a"
        assert nix.variables["NIX_STATE_DIR"] == f"{tmp_path}/nix/var/nix"
        assert nix.variables["NIX_REMOTE"] == "local"


class TestOwnStore:
    """A user of a machine without `/nix` that has a Nix: by itself that would make a store whose paths are no paths."""

    @pytest.fixture(autouse=True)
    def user(self, monkeypatch, tmp_path, programs):
        monkeypatch.setattr(nix_program.os, "geteuid", lambda: 1000)
        monkeypatch.setenv("HOME", str(tmp_path))
        self.state = tmp_path / "nix" / "var" / "nix"
        self.path = str(programs)

    def variables(self, **environ):
        return nix_program.choose("", {"PATH": self.path, **environ}, self.state).variables

    def test_the_store_is_the_user_s_and_its_place_is_real(self, tmp_path):
        variables = self.variables(NIX_REMOTE="")
        assert variables.keys() == STORE
        assert variables["NIX_STORE_DIR"] == f"{tmp_path}/.local/share/tungsten/nix/store"
        nix_program.make_store(*variables.values(), is_own=False)
        assert all(Path(path).is_dir() for path in variables.values())
        nix = nix_program.Nix(None, {"NIX_STORE_DIR": "/a b"})
        assert nix.for_a_shell(["nix", "build"]) == "env 'NIX_STORE_DIR=/a b' nix build"

    def test_a_home_behind_a_link_is_named_by_where_it_is(self, tmp_path, monkeypatch):
        """Nix takes no store behind a link."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        monkeypatch.setenv("HOME", str(tmp_path / "link"))
        assert self.variables()["NIX_STORE_DIR"].startswith(f"{tmp_path}/real/")
        assert self.variables(TUNGSTEN_HOME=f"{tmp_path}/link")["NIX_STORE_DIR"].startswith(
            f"{tmp_path}/real/"
        )

    @pytest.mark.parametrize(
        "environ",
        [{"NIX_STORE_DIR": "/a"}, {"NIX_STATE_DIR": "/b"}, {"NIX_REMOTE": "daemon"}, {"NIX_REMOTE": "/c"}],
    )
    def test_what_the_user_has_chosen_stays(self, environ):
        assert self.variables(**environ) == {}

    def test_a_store_that_is_there_stays(self):
        self.state.mkdir(parents=True)
        assert self.variables() == {}

    def test_root_makes_nix_s_own(self, monkeypatch):
        monkeypatch.setattr(nix_program.os, "geteuid", lambda: 0)
        assert self.variables() == {}


class TestPlace:
    """Where a store can be, and is made before a Nix is started."""

    @pytest.mark.parametrize("name", ["a b", "ö", "file"])
    @pytest.mark.parametrize("is_own", [False, True])
    def test_where_none_can_be_it_is_told_with_the_way_out(self, tmp_path, name, is_own):
        (tmp_path / "file").touch()
        with pytest.raises(BuildError, match="Nix store can't be made") as caught:
            nix_program.make_store(str(tmp_path / name / "store"), is_own=is_own)
        assert "TUNGSTEN_HOME" in caught.value.hint
        assert ("install -d -o" in caught.value.hint) is not is_own
        assert caught.value.where == str(tmp_path / name)

    def test_a_file_system_whose_programs_can_t_be_run_is_told(self, tmp_path, monkeypatch):
        class Mounted:
            f_flag = os.ST_NOEXEC | os.ST_NOSUID

        monkeypatch.setattr(nix_program.os, "statvfs", lambda path: Mounted)
        with pytest.raises(BuildError, match="mounted noexec"):
            nix_program.make_store(str(tmp_path / "store"), is_own=True)

    def test_without_a_nix_it_is_told_how_to_get_one(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("TUNGSTEN_NIX", "machine")
        with pytest.raises(
            BuildError, match=r"Nix is not installed: there is no `nix-store` on PATH"
        ) as caught:
            nix_program.run(["nix-store", "--version"])
        assert "TUNGSTEN_NIX=own" in caught.value.hint


@pytest.mark.parametrize("named", [None, "", "builder"])
def test_a_user_without_an_account_has_a_name_for_nix(monkeypatch, named):
    """As in a container that was started for any number."""

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(nix_program.pwd, "getpwuid", nobody)
    monkeypatch.delenv("USER", raising=False)
    if named is not None:
        monkeypatch.setenv("USER", named)
    assert nix_program.environment()["USER"] == (named or str(os.geteuid()))
