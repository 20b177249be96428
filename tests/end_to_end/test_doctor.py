"""`tungsten doctor` where one thing is missing in turn: it is named, and its command, run as it stands, mends it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import ENGINE, free_port, tungsten
from tests.end_to_end.somebody import Somebody, path_without
from tests.machine import need, needs
from tests.tungstenkit.test_certificates import made, pages, serve  # noqa: F401 (fixtures)
from tungstenkit import lacks

HERE = Path(__file__).parent
MENDING = [sys.executable, str(HERE / "mending.py")]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, in which nothing stays."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert [path.name for path in folder.iterdir()] == []


def mending(name, number, *options, before=(), **environment):
    """`mending.py`'s answers, each as whether all can be built, with the findings by name."""
    command = [*before, *MENDING, name, str(number), *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode == 99:
        pytest.skip("no user namespace can be made here, to forbid others in")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [one["status"] for one in answers] == [0 if one["can-build"] else 1 for one in answers]
    return [(one["can-build"], {found["name"]: found for found in one["findings"]}) for one in answers]


@needs("root")
def test_forbidden_namespaces(tmp_path):
    forbidding = [sys.executable, str(HERE / "forbidding.py")]
    ill, well = mending("user namespaces", 0, "--offline", before=forbidding)
    assert ill[0] is False
    assert ill[1]["user namespaces"]["found"] == "No space left on device: user.max_user_namespaces=0"
    assert well[0] is True
    assert well[1]["user namespaces"]["state"] == "ok"


@needs("root")
def test_a_root_that_may_not_mount(copy_of):
    """As in a container that grants root none: what is read is not read there, either."""
    before = ["setpriv", "--bounding-set=-sys_admin"]
    ((can_build, found),) = mending("user namespaces", 9, "--offline", before=before)
    assert can_build is False
    assert "CAP_SYS_ADMIN" in found["user namespaces"]["found"]
    assert tungsten("lock", "--check", copy_of("blur"), before=before).returncode == 1


PODMAN = ["podman", "run", "--rm", "--runtime=runc", "--network=none"]
PODMAN += ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]


@needs(*ENGINE)
def test_a_masked_proc(temporary):
    """In a container whose root is this machine's."""

    def in_a_container(*options):
        before = [
            *PODMAN,
            *options,
            "--env=TUNGSTEN_TESTS_KEYS",
            f"--env=TMPDIR={temporary}",
            "--rootfs",
            "/:O",
        ]
        ((can_build, found),) = mending("user namespaces", 9, "--offline", before=before)
        return can_build, found

    can_build, found = in_a_container()
    assert can_build is False
    assert re.search(r"is masked, in \d+ places", found["user namespaces"]["found"])
    assert found["sandbox"]["state"] == "lacking"
    (remedy,) = found["user namespaces"]["remedies"]
    options = re.fullmatch("start the container with (.+), or with (--privileged)", remedy["says"])
    can_build, found = in_a_container("--security-opt", "unmask=ALL")
    assert "refused, by a seccomp filter" in found["user namespaces"]["found"]
    # A user has enough by the first two.
    can_build, found = in_a_container(*options[1].removesuffix(" --cap-add SYS_ADMIN").split())
    assert "CAP_SYS_ADMIN" in found["user namespaces"]["found"]
    for granted in options.groups():
        can_build, found = in_a_container(*granted.split())
        assert can_build is True
        assert found["user namespaces"]["state"] == found["sandbox"]["state"] == "ok"


def test_no_engine_and_no_programs(tmp_path):
    """What would install each is tried as far as apt simulates it."""
    path = path_without(tmp_path / "path", "nix")
    for name in ("podman", "docker", *lacks.PROGRAMS):
        (path / name).unlink(missing_ok=True)
    ((can_build, found),) = mending("container engine", 9, "--offline", PATH=str(path), TUNGSTEN_NIX="own")
    assert can_build is True  # tungsten brings a Nix, and does without an engine
    assert "tungsten brings" in found["Nix"]["found"] or found["Nix"]["state"] == "ok"
    need("apt-get")
    (tmp_path / "apt.conf").write_text('APT::Get::Simulate "true";\n')
    for name, program in {
        "container engine": "podman",
        **dict(zip(lacks.PROGRAMS, lacks.PROGRAMS, strict=True)),
    }.items():
        assert found[name]["state"] == "lacking"
        (remedy,) = found[name]["remedies"]
        environment = {**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(
            ["sh", "-c", remedy["command"]], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        owner = subprocess.run(
            ["dpkg-query", "--search", shutil.which(program) or "nobody's"], capture_output=True, text=True
        )
        assert owner.stdout.partition(":")[0] in ("", remedy["command"].split()[-1])


@needs(*ENGINE)
def test_an_engine_that_starts_no_container_as_it_is():
    answers = mending("containers", 0, "--offline", TUNGSTEN_ENGINE_ARGS="")
    if len(answers) == 1:
        pytest.skip("this machine's podman starts containers as it is")
    (_, ill), (_, well) = answers
    assert "podman can't start one as it is" in ill["containers"]["found"]
    assert well["containers"]["state"] == "ok"
    listed = subprocess.run(["podman", "images", "--all"], capture_output=True, text=True, check=True).stdout
    assert "tungsten-doctor" not in listed


@needs("root")
def test_a_full_disk(tmp_path):
    (full := tmp_path / "full").mkdir()
    filled = f'mount -t tmpfs -o size=200k tmpfs {full}; head -c 1M /dev/zero >{full}/x || :; exec "$@"'
    before = ["unshare", "--mount", "--propagation=private", "sh", "-ec", filled, "sh"]
    ill, well = mending("room for temporary files", 0, "--offline", before=before, TMPDIR=str(full))
    assert ill[0] is False
    assert ill[1]["room for temporary files"]["found"] == f"{full} can't be written: No space left on device"
    assert well[0] is True
    # The same of what it keeps, and of Nix's store: nothing ends otherwise than by being told.
    (full_home,) = mending("room for the cache", 9, before=before, XDG_CACHE_HOME=str(full), HOME=str(full))
    assert full_home[0] is False
    assert full_home[1]["room for the cache"]["state"] == "lacking"


def test_no_mirror(frozen):
    """A proxy that is gone, and a mirror: nobody is asked that is not on this machine."""
    nobody = f"http://127.0.0.1:{free_port()}"
    proxies = {"http_proxy": nobody, "https_proxy": nobody, "no_proxy": "127.0.0.1,localhost"}
    # The security archive is looked for beside the other.
    names = {"TUNGSTEN_MIRROR_DEBIAN": f"{nobody}/debian", "TUNGSTEN_MIRROR_DEBIAN_SECURITY": ""}
    filled = {"FILL_URL": f"{frozen.url}/debian"}
    ill, well = mending("Debian's archive", 0, **proxies, **names, **filled)
    assert ill[0] is False
    assert f"{nobody}/debian: no connection" in ill[1]["Debian's archive"]["found"]
    assert ill[1]["Python index"]["state"] == "ok"
    assert ill[1]["proxy"]["state"] == "lacking"
    assert well[0] is True
    assert well[1]["Debian's archive"]["state"] == "ok"
    filled = {"FILL_URL": frozen.environment["TUNGSTEN_MIRROR_PYPI"]}
    ill, well = mending("Python index", 0, TUNGSTEN_MIRROR_PYPI=nobody, **filled)
    assert (ill[0], well[0]) == (False, True)


@needs("root")
def test_no_network():
    """And no fault but that; `--offline` is for such a machine."""
    done = tungsten("doctor", before=["unshare", "--net"])
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert "lacks    Debian's archive" in done.stdout
    assert "lacks    Python index" in done.stdout
    assert tungsten("doctor", "--offline", before=["unshare", "--net"]).returncode == 0


UNKNOWN = dict.fromkeys(
    ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
    "",
)
WITH_OWN_ETC = """
mount -t tmpfs tmpfs {scratch}
for place in etc usr/local; do
  mkdir -p {scratch}/$place/up {scratch}/$place/work
  mount -t overlay overlay -o lowerdir=/$place,upperdir={scratch}/$place/up,workdir={scratch}/$place/work /$place
done
mkdir -p /usr/local/share/ca-certificates
exec "$@"
"""


@pytest.mark.parametrize("way", ["user", "system"])
def test_an_authority_that_is_not_known(way, made, serve, tmp_path):  # noqa: F811
    before = []
    if way == "system":
        need("root", "update-ca-certificates")
        (tmp_path / "scratch").mkdir()
        script = WITH_OWN_ETC.format(scratch=tmp_path / "scratch")
        before = ["unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh"]
        if subprocess.run([*before, "true"], capture_output=True).returncode != 0:
            pytest.skip("nothing can be laid over /etc here")
    environment = {"TUNGSTEN_MIRROR_PYPI": f"{serve()}/simple", "FILL_FILE": str(made / "ca.pem"), **UNKNOWN}
    answers = mending("certificates", 2 if way == "system" else 0, before=before, **environment)
    ill, well = answers
    assert ill[0] is False
    assert "the TLS handshake failed: unable to get local issuer" in ill[1]["certificates"]["found"]
    assert "TLS handshake" in ill[1]["Python index"]["found"]
    assert well[0] is True
    assert well[1]["certificates"]["state"] == "ok"


def test_a_certificate_of_another_server_is_no_lack_of_an_authority(made, serve):  # noqa: F811
    environment = {
        "TUNGSTEN_MIRROR_PYPI": f"{serve('other')}/simple",
        **UNKNOWN,
        "SSL_CERT_FILE": str(made / "ca.pem"),
    }
    ((can_build, found),) = mending("certificates", 9, **environment)
    assert can_build is False
    assert found["certificates"]["state"] == "lacking"
    assert not any(remedy["command"] for remedy in found["certificates"]["remedies"])


@needs("root")
def test_a_store_that_is_root_s_alone(folder):
    """No daemon answers for it; tungsten's own Nix needs none."""
    if not Path("/nix/var/nix").exists() or Path("/nix/var/nix/daemon-socket/socket").exists():
        pytest.skip("this machine has no /nix of root's alone")
    somebody = Somebody(folder / "other", sees_roots=True)
    ill, well = mending("Nix", 0, "--offline", before=somebody.before)
    assert ill[0] is False
    assert "which this user can't use" in ill[1]["Nix"]["found"]
    assert well[0] is True
    assert "tungsten brings" in well[1]["Nix"]["found"]


@needs("root")
def test_a_user_without_ids_for_containers(folder):
    """An ordinary user, whose Nix would be tungsten's own; rootless podman has only their own id to give."""
    somebody = Somebody(folder / "user", has_store=False)
    done = tungsten("doctor", "--offline", "--json", before=somebody.before, env={"TUNGSTEN_NIX": "own"})
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["user namespaces"]["state"] == "ok"
    assert "tungsten brings" in found["Nix"]["found"]
    assert found["containers"]["state"] == "lacking"
    commands = [remedy["command"] for remedy in found["containers"]["remedies"]]
    assert any(command.startswith("usermod --add-subuids ") for command in commands)
    # podman's own folders alone, as after its first command.
    left = {path.name for path in somebody.home.iterdir()}
    assert not [name for name in left if name.startswith("tungsten-")]
