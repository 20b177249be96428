"""A hostile step reaches nothing: each kind of step runs the same attacks, as root's and as an ordinary user's Nix runs
it, on the real programs.
"""

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, derivation, nix, nix_line, succeed, tungsten
from tests.end_to_end.somebody import UID, Somebody
from tests.machine import lacks, need, needs
from tungstenkit import store
from tungstenkit.data import NIX

HERE = Path(__file__).parent
ADD_KEY = 248 if os.uname().machine == "x86_64" else 217

USERS_OPTIONS = [
    *("--option", "sandbox", "true"),
    *("--option", "sandbox-fallback", "false"),
    *("--option", "substituters", ""),
]
KINDS = ["import-check", "post-build", "run", "run-with-network", "source", "package-script"]
IN_REACH = {
    # What shares the machine's network has its loopback, and its abstract sockets where there is no Landlock.
    "post-build": {"loopback", "abstract"},
    "run-with-network": {"loopback", "abstract"},
}


@pytest.fixture(scope="module")
def canary():
    """What is outside, for attacks to find."""
    key = f"tungsten-{secrets.token_hex(8)}"
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(ADD_KEY, b"user", key.encode(), b"secret", 6, -3) > 0, "no key can be added"
    with socket.socket() as port, socket.socket(socket.AF_UNIX) as abstract:
        port.bind(("127.0.0.1", 0))
        abstract.bind(f"\0{key}")
        for one in (port, abstract):
            one.listen()
        yield {"port": port.getsockname()[1], "abstract": key, "key": key}


@pytest.fixture(scope="module")
def parts(blur, canary, folder):
    """The arguments of attacks.nix."""
    (layout,) = derivation(blur.derivation)
    config = json.loads(layout["env"]["config"])
    (required,) = blur.required
    (check,) = derivation(required)
    start = layout["args"].index("image.py") + 1
    program = folder / "attacks.py"
    shutil.copyfile(HERE / "attacks.py", program)
    for source in NIX.rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            target = folder / "nix" / source.relative_to(NIX)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    shutil.copyfile(HERE / "attack_by_script.py", folder / "nix" / "attack_by_script.py")
    backend = folder / "backend.py"
    backend.write_text(
        program.read_text().partition('if __name__ == "__main__":')[0]
        + f"\ndef build_wheel(_folder):\n    main(json.loads({json.dumps(canary)!r}), whole_root=False)\n"
    )
    with tarfile.open(folder / "attack.tar.gz", "w:gz") as tar:
        tar.add(backend, "attack-1/backend.py")
    shutil.copyfile(HERE / "attacks.nix", folder / "attacks.nix")
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return {
        "nix": str(folder / "nix"),
        "busybox": str(Path(layout["builder"]).parent.parent),
        "python": json.dumps(layout["args"][start : layout["args"].index("-I")]),
        "tree": check["env"]["tree"],
        "layers": json.dumps(config["layers"]),
        "archive": str(folder / "attack.tar.gz"),
        "program": str(program),
        "canary": json.dumps(canary),
    }


def attack(kind, parts, before=(), options=None):
    """What an attack of a kind reaches."""
    given = [word for name, value in parts.items() for word in ("--argstr", name, value)]
    program = Path(parts["archive"]).with_name("attacks.nix")
    command = nix_line("nix-build", "--no-out-link", program, "-A", kind, *given, options=options)
    done = subprocess.run([*before, *command], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "REACHED " in line]
    assert said, done.stderr[-3000:]
    assert "left: " not in done.stderr or done.stderr.endswith("left: \n"), done.stderr[-300:]
    return json.loads(said[-1].partition("REACHED ")[2])


def left(canary):
    """Processes that an attack has left."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and canary["key"].encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return [pid for pid in found if int(pid) != os.getpid()]


@pytest.fixture(scope="module")
def user(parts, folder):
    """Somebody whose store has what the attacks are built with."""
    need("root", "/nix")
    user = Somebody(folder / "user")
    wanted = [parts["busybox"], parts["tree"], *json.loads(parts["layers"])]
    wanted += [
        str(Path(*Path(word).parts[:4]))
        for word in json.loads(parts["python"])
        if word.startswith("/nix/store/")
    ]
    query = ["nix-store", "--query", "--requisites", *wanted]
    closure = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["cp", "-a", *closure, user.folder / "nix" / "store"], check=True)
    user.own(user.folder)
    dump = subprocess.run(["nix-store", "--dump-db", *closure], capture_output=True, check=True).stdout
    subprocess.run([*user.before, "nix-store", "--load-db"], input=dump, check=True)
    return user


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_on_roots_builds_reaches_nothing(kind, parts, canary):
    reached = attack(kind, parts)
    assert set(reached) <= IN_REACH.get(kind, set()), reached
    assert left(canary) == []


FORK_BOMB = """
import json, os, signal
count = 0
try:
    while count < 10_000:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError as problem:
    print("REACHED " + json.dumps([count, problem.strerror]), flush=True)
"""
DISK = """
import json, os
try:
    with open("/tmp/all", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
except OSError as problem:
    # Not all of it: what it says may need room, too.
    os.truncate("/tmp/all", 100 << 20)
    print("REACHED " + json.dumps(problem.strerror), flush=True)
"""


@pytest.mark.parametrize("caller", ["root", "user"])
def test_a_fork_bomb_ends_where_it_may_have_no_more(caller, parts, folder, user):
    program = folder / "bomb.py"
    program.write_text(FORK_BOMB)
    before, options = ((), None) if caller == "root" else (user.before, USERS_OPTIONS)
    count, problem = attack("import-check", parts | {"program": str(program)}, before, options)
    assert (problem, 1000 < count < 4096) == ("Resource temporarily unavailable", True)


@pytest.mark.parametrize("kind", ["import-check", "post-build", "run", "package-script"])
@pytest.mark.parametrize("caller", ["root", "user"])
def test_a_full_disk_is_the_steps_own_end(kind, caller, parts, folder, user):
    """What it wrote is gone. A source's build writes where an import check does, a networked RUN where any does."""
    program, room = folder / "disk.py", user.home if caller == "user" else folder / "room"
    program.write_text(DISK)
    room.mkdir(exist_ok=True)
    before, options = ((), None) if caller == "root" else (user.before, USERS_OPTIONS)
    script = f"""
        mount -t tmpfs -o size=500m,mode=755,uid={UID if caller == "user" else 0} tmpfs "$1"
        export TMPDIR="$1"
        place=$1
        shift
        "$@" || true
        echo "left: $(ls "$place")" >&2
    """
    before = ["unshare", "--mount", "sh", "-ec", script, "sh", str(room), *before]
    found = attack(kind, parts | {"program": str(program)}, before, options)
    assert found == "No space left on device"


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_on_a_users_builds_reaches_nothing(kind, parts, canary, user):
    reached = attack(kind, parts, user.before, USERS_OPTIONS)
    assert set(reached) <= IN_REACH.get(kind, set()), reached
    assert left(canary) == []
    # The store is that user's own: what others build on is as it was.
    paths = [parts["tree"], parts["busybox"], *json.loads(parts["layers"])]
    subprocess.run([*user.before, "nix-store", "--verify-path", *paths], check=True)


def test_the_attacks_succeed_where_nothing_is_apart(parts, folder):
    """In one user namespace alone, as steps ran in once: what is asserted above could fail."""
    script = 'mount -o bind,ro "$1" "$1"; exec /usr/bin/python3 "$1/attacks.py" "$2" run'
    command = [
        "unshare",
        "-r",
        "-m",
        "-p",
        "-f",
        "--mount-proc",
        "sh",
        "-euc",
        script,
        "sh",
        folder,
        parts["canary"],
    ]
    if not lacks("root"):
        command = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
    reached = json.loads(done.stdout.splitlines()[-1].removeprefix("REACHED "))
    assert {"mount", "remount", "unmount", "namespaces", "capabilities", "new privileges", "keys"} <= set(
        reached
    )


@needs("root")
def test_setting_up_makes_the_users_that_builds_run_as(tmp_path):
    """Once, for root alone, and not where there are some."""
    shutil.copytree("/etc", tmp_path / "etc", symlinks=True)
    text = (tmp_path / "etc" / "group").read_text()
    (tmp_path / "etc" / "group").write_text(
        "".join(f"{line}\n" for line in text.split("\n") if line[:6] != "nixbld")
    )
    script = """
        mount --bind "$1" /etc
        for n in 1 2 3 4 5 6 7 8 9 10; do userdel "nixbld$n" 2> /dev/null || true; done
        sh examples/need.sh
        getent group nixbld
        id -un nixbld10
        sh examples/need.sh
    """
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", tmp_path / "etc"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first, group, last, *more = done.stdout.splitlines()
    assert first == "making the users nixbld1 to nixbld10, which Nix builds as"
    assert group.endswith(":" + ",".join(f"nixbld{n}" for n in range(1, 11)))
    assert (last, more) == ("nixbld10", [])


def test_root_without_build_users_is_told_how_to_make_them(copy_of, tmp_path):
    """And nothing is built. What needs no build works."""
    need("root")
    if not nix("nix", "--version").split()[-1].startswith(("2.8", "2.9.", "2.10", "2.11")):
        pytest.skip("this Nix needs no build users")
    for name in ("group", "passwd"):
        kept = [
            line for line in Path("/etc", name).read_text().splitlines(True) if not line.startswith("nixbld")
        ]
        (tmp_path / name).write_text("".join(kept))
    script = 'for name in group passwd; do mount --bind "$1/$name" "/etc/$name"; done; shift; exec "$@"'
    before = ["unshare", "--mount", "sh", "-euc", script, "sh", str(tmp_path)]
    folder = copy_of("blur")
    succeed("fetch", folder, before=before)
    done = tungsten("build", folder, "--no-load", before=before)
    assert done.returncode == 1
    assert "error: there are no users for Nix to build as" in done.stderr
    assert f"`{store.BUILD_USERS_COMMAND}`" in done.stderr.replace("\n        ", " ")


READING = """

import os, pathlib
main(json.loads({canary!r}), whole_root=False)
here = pathlib.Path(__file__).parent
assert (here / "data.txt").read_text() == "data"
tried("own folder", lambda: any_of(written_again, [str(here / "data.txt")]))
tried("own folder's mode", lambda: here.chmod(0o700) is None)
seen = [name for name in {secrets!r} if os.path.exists(name)]
seen += [name for name in os.environ if "CANARY" in name]
raise RuntimeError(json.dumps([reached, seen, os.getuid()]))
"""


@pytest.fixture
def hostile(folder, canary, copy_of):
    """A model whose module attacks while it is read, in a folder that its owner alone may enter."""
    model = folder / f"model-{secrets.token_hex(4)}"
    shutil.copytree(copy_of("blur"), model)
    text = (HERE / "attacks.py").read_text().partition('if __name__ == "__main__":')[0]
    hidden = [str(Path.home() / ".ssh"), "/etc/shadow", str(ROOT / "README.md"), "/var", str(folder / "nix")]
    (model / "neighbour.py").write_text(text)
    (model / "data.txt").write_text("data")
    (model / "tungsten_model.py").write_text(
        "from neighbour import *\n" + READING.format(canary=json.dumps(canary), secrets=hidden)
    )
    (model / "data.txt").chmod(0o600)
    model.chmod(0o700)
    return model


def reading(model, *before):
    """What a module reaches and sees while it is read, and as whom: the error has it."""
    done = tungsten("lock", "--check", model, before=before, env={"TUNGSTEN_CANARY": "1"})
    assert done.returncode == 1
    assert "RuntimeError: " in done.stderr, done.stderr
    return json.JSONDecoder().raw_decode(done.stderr.partition("RuntimeError: ")[2])[0]


def test_a_module_reaches_nothing_while_root_reads_it(hostile, canary):
    assert reading(hostile) == [{}, [], 65532]
    assert left(canary) == []


@needs("root")
def test_a_module_reaches_nothing_while_a_user_reads_it(hostile, canary, folder):
    user = Somebody(folder / f"reader-{secrets.token_hex(4)}")
    user.own(hostile)
    assert reading(hostile, *user.before) == [{}, [], 65532]
    assert left(canary) == []


CHECKED = """

import json, os
from neighbour import main, reached
main({canary!r}, whole_root=False)
raise RuntimeError(json.dumps([reached, [name for name in os.environ if "CANARY" in name], os.getuid()]))
"""


@pytest.mark.parametrize("caller", ["root", "user"])
def test_a_server_that_is_checked_reaches_the_network_alone(caller, copy_of, canary, folder, user):
    """Its own as in a container, and the machine's, by `tungsten check`; a user builds the image in their own store,
    which has the layers below the model's.
    """
    model = folder / f"checked-{caller}"
    shutil.copytree(copy_of("blur"), model)
    text = (HERE / "attacks.py").read_text().partition('if __name__ == "__main__":')[0]
    (model / "neighbour.py").write_text(text)
    attack = "\n".join(f"        {line}" for line in CHECKED.format(canary=canary).splitlines())
    (model / "tungsten_model.py").write_text(
        (model / "tungsten_model.py")
        .read_text()
        .replace("class Blur:", f"class Blur:\n    def setup(self):{attack}")
    )
    before, environment = (), {"TUNGSTEN_CANARY": "1"}
    if caller == "user":
        shutil.copytree(os.environ["TUNGSTEN_TESTS_KEYS"], user.home / "keys")
        user.own(user.home)
        user.own(model)
        before = user.before
        environment["TUNGSTEN_TESTS_KEYS"] = str(user.home / "keys")
    done = tungsten("check", model, before=before, env=environment)
    assert "RuntimeError: [" in done.stderr, done.stderr
    reached, seen, uid = json.JSONDecoder().raw_decode(done.stderr.partition("RuntimeError: ")[2])[0]
    assert set(reached) <= {"loopback", "abstract"}, reached
    assert (seen, uid) == ([], 65532)
    assert left(canary) == []


@needs("root")
def test_where_namespaces_are_refused_a_module_is_not_read_but_on_trust(copy_of):
    """As in a container that grants root none."""
    folder = copy_of("blur")
    before = ["setpriv", "--bounding-set=-sys_admin"]
    done = tungsten("lock", "--check", folder, before=before)
    assert done.returncode == 1
    assert (
        "error: this machine does not let the model's module run apart: Operation not permitted"
        in done.stderr
    )
    assert "--trust" in done.stderr
    succeed("lock", "--check", "--trust", folder, before=before)
    succeed("lock", "--check", folder, before=before, env={"TUNGSTEN_TRUST": "1"})
