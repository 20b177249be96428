"""`post_build` run and captured: what it is given, what comes out, and what may not be."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from tests.clocks import libfaketime
from tests.machine import need
from tests.nix.conftest import LIB, TOOLS

# The program's own paths are a root's; here they are two folders.
PROGRAM = """
import sys
from pathlib import Path
tools, app, home, config, out = sys.argv[1:]
sys.path.insert(0, tools)
import post_build
post_build.APP, post_build.HOME = app, home
post_build._NOT_IN_THE_IMAGE = ("/proc", "/dev")
try:
    post_build.post_build(Path(config), Path(out))
except post_build.StepError as error:
    sys.exit(f"error: {error}")
"""
PLAIN = {"again": False, "baseline": False, "fake-time": None}


@pytest.fixture
def step(tmp_path):
    """Runs a body of post_build; the finished process, and by path what it captured."""

    def run(
        body,
        *,
        files=(),
        variables=(),
        secrets="",
        certificates=None,
        variation=PLAIN,
        environment=None,
        program=PROGRAM,
    ):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        app, home = folder / "app", folder / "home"
        for top in (app, home):
            top.mkdir(parents=True)
        lines = "".join(f"        {line}\n" for line in body.splitlines())
        (app / "model.py").write_text(
            f"import os, sys\nfrom pathlib import Path\nHOME = Path(os.environ['HOME'])\n"
            f"class Model:\n    @staticmethod\n    def post_build():\n{lines}"
        )
        for name, text in dict(files).items():
            (app / name).parent.mkdir(parents=True, exist_ok=True)
            (app / name).write_text(text)
        config = {
            "module": "model",
            "class": "Model",
            "secrets": secrets,
            "certificates": certificates,
            "variables": list(variables),
            "environment": {"HOME": str(home), "PATH": "/usr/bin:/bin", "SSL_CERT_FILE": "/ca.crt"},
            "variation": variation,
        }
        (folder / "config.json").write_text(json.dumps(config))
        out = folder / "out.tar"
        arguments = [sys.executable, "-I", "-B", "-c", program, TOOLS, app, home, folder / "config.json", out]
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment or {})
        done.out = out
        done.made = {}
        if done.returncode == 0:
            with tarfile.open(out) as tar:
                prefix = str(folder).lstrip("/") + "/"
                done.made = {member.name.removeprefix(prefix): member for member in tar}
        return done

    return run


def test_what_is_new_or_changed_is_captured_with_modes_and_links(step):
    done = step(
        """
Path("made").mkdir(mode=0o700)
Path("made/run").write_text("x"); Path("made/run").chmod(0o700)
Path("made/data").write_text("data"); Path("made/data").chmod(0o600)
os.link("made/data", "made/same")
Path("made/link").symlink_to("data")
Path("there.txt").write_text("changed")
(HOME / ".cache").mkdir()
(HOME / ".cache" / "refs").write_text("main")
""",
        files={"there.txt": "old", "untouched.txt": "old", "sub/deep.txt": "old"},
    )
    assert done.returncode == 0, done.stderr
    assert {name: oct(member.mode) for name, member in done.made.items()} == {
        "app/made": "0o775",
        "app/made/data": "0o660",
        "app/made/link": "0o777",
        "app/made/run": "0o770",
        "app/made/same": "0o660",
        "app/there.txt": "0o664",
        "home/.cache": "0o775",
        "home/.cache/refs": "0o664",
    }
    assert done.made["app/made/same"].islnk()
    assert {(m.uid, m.gid, m.mtime, m.uname) for m in done.made.values()} == {(65532, 0, 1, "")}


def test_the_same_files_are_the_same_bytes_whenever_and_in_whatever_order(step):
    """But for the paths, which are /app's in a build."""
    one = step("Path('b').write_text('1'); Path('a').write_text('2')")
    two = step("Path('a').write_text('2'); os.utime('a', (5, 5)); Path('b').write_text('1')")
    assert one.out.stat().st_size == two.out.stat().st_size
    assert list(one.made) == list(two.made) == ["app/a", "app/b"]
    ignored = {"name": "", "chksum": 0}
    assert [m.get_info() | ignored for m in one.made.values()] == [
        m.get_info() | ignored for m in two.made.values()
    ]


def test_it_runs_as_the_model_will(step):
    done = step(
        """
print(os.getcwd() == sys.path[0] == os.path.dirname(os.path.abspath(__file__)))
for name in ("PYTHONHASHSEED", "SOURCE_DATE_EPOCH", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "OTHER"):
    print(name, os.environ.get(name))
""",
        environment={"http_proxy": "", "https_proxy": "http://proxy:1", "OTHER": "1"},
    )
    assert done.stdout.split("\n")[:7] == [
        "True",
        "PYTHONHASHSEED 0",
        "SOURCE_DATE_EPOCH 1",
        "REQUESTS_CA_BUNDLE /ca.crt",
        "http_proxy None",
        "https_proxy http://proxy:1",
        "OTHER None",
    ]
    assert "has changed nothing" in done.stdout


def test_the_machines_certificates_come_before_the_images(step):
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
    done = step(f"print(*(os.environ[name] for name in {names}))", certificates="/tmp/own.crt")
    assert done.stdout.startswith("/tmp/own.crt " * 2 + "/tmp/own.crt\n")


def test_the_second_run_has_all_of_it_otherwise(step):
    body = "print(os.environ['PYTHONHASHSEED'], len(os.sched_getaffinity(0)), os.environ.get('OPENBLAS_CORETYPE'))"
    assert step(body).stdout.split()[:3] == ["0", str(len(os.sched_getaffinity(0))), "None"]
    seed, cpus, core = step(body, variation={**PLAIN, "again": True}).stdout.split()[:3]
    assert (seed != "0", cpus, core != "None") == (True, "1", True)
    baseline = step(body, variation={**PLAIN, "baseline": True}).stdout.split()[:3]
    assert baseline == ["0", "1", core]


def test_a_downloaders_journal_is_kept_nowhere(step):
    """Hugging Face's names its files after the time."""
    assert step("print(os.environ['HF_XET_CACHE'])").stdout.split()[0] == "/tmp/xet"


def test_libfaketime_is_for_the_users_process_alone(step):
    """A library that is not there is the loader's to complain of, once: by the user's Python."""
    done = step("print('ran')", variation={**PLAIN, "again": True, "fake-time": "/no/library.so"})
    assert "ran" in done.stdout
    assert done.stdout.count("/no/library.so") == 1
    assert "/no/library.so" not in done.stderr


def test_under_another_clock_waits_take_as_long_as_they_say(step, tmp_path):
    """Also those of C and C++ for a condition, by the monotonic clock, which is not moved, and by the one that is."""
    need("libfaketime")
    library = libfaketime(tmp_path)
    body = """
import ctypes, time
c, moved = ctypes.CDLL(None), time.time() - Path(__file__).stat().st_mtime
print("hours", round(moved / 3600))
for clock in (time.CLOCK_MONOTONIC, time.CLOCK_REALTIME):
    kind, condition, mutex = (ctypes.create_string_buffer(64) for _ in range(3))
    c.pthread_condattr_init(kind); c.pthread_condattr_setclock(kind, clock)
    c.pthread_cond_init(condition, kind); c.pthread_mutex_init(mutex, None); c.pthread_mutex_lock(mutex)
    begun, end = time.monotonic(), time.clock_gettime(clock) + 0.25
    c.pthread_cond_timedwait(condition, mutex, (ctypes.c_long * 2)(int(end), int(end % 1 * 10**9)))
    print(0.2 < time.monotonic() - begun < 60)
"""
    said = step(body, variation={**PLAIN, "again": True, "fake-time": str(library)}).stdout
    assert said.startswith("hours 26\nTrue\nTrue\n")


def test_all_that_may_not_be_is_named_at_once(step):
    done = step(
        """
Path("gone.txt").unlink()
os.mkfifo("pipe")
__import__("socket").socket(__import__("socket").AF_UNIX).bind("socket")
Path(".wh.one").write_text("")
Path("sub/.wh..wh..opq").mkdir(parents=True)
Path("away").symlink_to("/nowhere/at/all")
Path("process").symlink_to("/proc/self")
Path("fine").symlink_to("/usr")
Path("model.py").write_text("x")
Path("folder.txt").unlink(); Path("folder.txt").mkdir()
""",
        files={"gone.txt": "", "folder.txt": ""},
    )
    assert done.returncode == 1
    for name in (
        "gone.txt: deleted",
        "pipe: neither",
        "socket: neither",
        "app/.wh.one: in a layer, a name",
        "sub/.wh..wh..opq: in a layer, a name",
        "away: links to",
        "process: links to",
        "model.py: the model's",
    ):
        assert name in done.stderr
    assert "folder.txt: was a file, and is a dir now" in done.stderr
    assert "/fine" not in done.stderr
    assert not done.out.exists()


def test_only_leavings_are_removed_and_they_are_named(step):
    done = step(
        """
import py_compile
for name in ("a.py", "refs/main", "download.lock", "hub/.locks/x.lock", "half.incomplete", "only.pyc"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("")
py_compile.compile("a.py")
for name in (".cache/huggingface/download/a.metadata", ".cache/huggingface/hub/blob", ".cache/download/file"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("")
""",
        files={"mine.incomplete": "a file of the model's"},
    )
    assert done.returncode == 0, done.stderr
    files = {name.removeprefix("app/") for name, member in done.made.items() if not member.isdir()}
    assert files == {
        "a.py",
        "refs/main",
        "download.lock",
        "only.pyc",
        ".cache/huggingface/hub/blob",
        ".cache/download/file",
    }
    assert "app/__pycache__" not in done.made
    for name in ("a.cpython", "hub/.locks", "half.incomplete", ".cache/huggingface/download"):
        assert name in done.stdout


def test_a_failure_shows_its_traceback_and_status(step):
    done = step("print('before'); raise ValueError('no such weights')")
    assert done.returncode == 1
    assert "before" in done.stdout
    assert "ValueError: no such weights" in done.stdout
    assert "post_build ended with status 1" in done.stderr
    assert "killed by signal 9" in step("os.kill(os.getpid(), 9)").stderr


def test_what_it_leaves_running_neither_delays_nor_writes(step):
    done = step(
        """
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60); open('late', 'w')"])
print("done")
"""
    )
    assert done.returncode == 0
    assert done.stdout.startswith("done")
    assert done.made == {}


DAEMON = """
import subprocess
daemon = subprocess.Popen([sys.executable, "-c", {code!r}], start_new_session=True)
print("daemon", daemon.pid, flush=True)
"""


def test_what_has_left_its_session_ends_too_and_nothing_else(step):
    with subprocess.Popen(["sleep", "60"]) as other:
        done = step(DAEMON.format(code="import time; time.sleep(60)"))
        assert other.poll() is None
        other.kill()
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout.split()[1]), 0)


def test_what_it_leaves_running_may_print_for_ever(step):
    code = """
import time, sys
for _ in range(2000):
    print("noise", file=sys.stderr, flush=True)
    open("started", "w")
    time.sleep(0.01)
open("late", "w")
"""
    done = step(DAEMON.format(code=code) + "while not os.path.exists('started'): pass")
    assert done.returncode == 0, done.stderr
    assert list(done.made) == ["app/started"]


def test_without_ctypes_the_session_ends(step):
    """A base image's Python may lack it."""
    done = step(
        "import subprocess; print('child', subprocess.Popen(['sleep', '60']).pid)",
        program=PROGRAM.replace("import post_build", "sys.modules['ctypes'] = None\nimport post_build"),
    )
    assert done.returncode == 0, done.stderr
    # Nobody here may wait for it.
    status = Path(f"/proc/{done.stdout.split()[1]}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


SECRET = {"TOKEN": "s3cret-t0ken"}


def test_a_secret_reaches_it_and_is_not_printed(step):
    body = "t = os.environ['TOKEN']; print('it is', t); sys.stderr.write('again ' + t)\nPath('ok').write_text('ok')"
    done = step(body, variables=["TOKEN"], environment=SECRET)
    assert done.returncode == 0, done.stderr
    assert "it is ***\nagain ***" in done.stdout
    assert list(done.made) == ["app/ok"]


def test_a_secret_of_several_lines_is_masked_too(step):
    key = "-----BEGIN KEY-----\nq8w7e6r5t4\n-----END KEY-----"
    done = step("print(os.environ['KEY'])", variables=["KEY"], environment={"KEY": key})
    assert done.returncode == 0, done.stderr
    assert "q8w7e6r5t4" not in done.stdout


@pytest.mark.parametrize(
    "body",
    [
        "Path('sub').mkdir(); Path('sub/holder').write_bytes(b'x' * ((1 << 20) - 3) + os.environb[b'TOKEN'])",
        "Path('holder').symlink_to('/usr/../usr/' + os.environ['TOKEN'] + '/../bin')",
        "Path('holder-' + os.environ['TOKEN']).write_text('')",
    ],
)
def test_a_file_with_a_secret_is_refused_by_name(step, body):
    done = step(body, variables=["TOKEN"], environment=SECRET)
    assert done.returncode == 1
    assert not done.out.exists()
    assert "holder" in done.stderr
    assert SECRET["TOKEN"] not in done.stderr + done.stdout


def test_a_variable_that_nobody_has_set_is_an_error_before_anything_runs(step):
    done = step("print('ran')", variables=["TOKEN", "OTHER"], environment={"OTHER": "1"})
    assert done.returncode == 1
    assert "post_build needs TOKEN" in done.stderr
    assert "ran" not in done.stdout


def test_secrets_come_from_the_socket_where_there_is_one(step):
    """As under a daemon, whose environment is not the user's."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("\0tungsten-test-" + os.urandom(8).hex())
        sock.listen()
        address = sock.getsockname().decode()[1:]
        asked = []

        def answer():
            peer, _ = sock.accept()
            with peer:
                asked.append(peer.recv(100))
                peer.sendall(json.dumps(SECRET).encode())

        thread = threading.Thread(target=answer)
        thread.start()
        body = "Path('hash').write_text(__import__('hashlib').sha256(os.environb[b'TOKEN']).hexdigest())"
        done = step(
            body, variables=["TOKEN"], secrets=f"{address} nonce", environment={"TOKEN": "the daemon's"}
        )
        thread.join()
    assert asked == [b"nonce"]
    assert done.returncode == 0, done.stderr
    with tarfile.open(done.out) as tar:
        content = tar.extractfile(done.made["app/hash"]).read().decode()
    assert content == hashlib.sha256(SECRET["TOKEN"].encode()).hexdigest()
    gone = step("pass", variables=["TOKEN"], secrets=f"{address} nonce")
    assert "does not answer" in gone.stderr


@pytest.mark.parametrize(("environment", "said"), [("TOKEN", ""), ("OTHER", "under this version of Nix")])
def test_where_nix_forbids_the_socket_the_environment_counts(step, environment, said):
    """The kernel's refusal is stood in for: not every kernel has that rule."""
    program = PROGRAM.replace(
        "try:\n",
        "import socket\nclass Refusing(socket.socket):\n"
        "    def connect(self, *_): raise PermissionError(1, 'no')\npost_build.socket.socket = Refusing\ntry:\n",
    )
    done = step("pass", variables=["TOKEN"], secrets="a b", environment={environment: "x"}, program=program)
    assert (done.returncode == 0) == (said == ""), done.stderr
    assert said in done.stderr


def test_abstract_sockets_of_the_machine_are_out_of_reach(step):
    """It shares the machine's network, and with it those sockets."""
    check = (
        "import sys; sys.path.insert(0, sys.argv[1]); import landlock\n"
        "sys.exit(not landlock.forbid_abstract_sockets())"
    )
    if subprocess.run([sys.executable, "-c", check, LIB]).returncode:
        pytest.skip("this kernel's Landlock has no scopes (Linux 6.12)")
    name = f"tungsten-test-{os.getpid()}"
    body = f"""
import socket
outer, own, inner = (socket.socket(socket.AF_UNIX) for _ in range(3))
try:
    outer.connect("\\0{name}")
    print("reached")
except PermissionError:
    print("forbidden")
own.bind("\\0{name}-own"); own.listen(); inner.connect("\\0{name}-own")
print("its own work")
"""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0{name}")
        sock.listen()
        done = step(body)
    assert done.returncode == 0, done.stderr
    assert "forbidden\nits own work" in done.stdout
