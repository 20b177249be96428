"""A model's server that is started for a program: what it answers, and that nothing is left after it."""

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import generate
from tungstenkit import models
from tungstenkit.data import VERSION
from tungstenkit.lock.parts import Tungsten
from tungstenkit.models.observer import Logged, log_lines
from tungstenkit.run.client import Client
from tungstenkit.sdk.errors import RunError, TungstenError

pytestmark = pytest.mark.timeless("starts servers, which costs seconds, and reads no clock but to wait")

PATIENCE = 60
"""Seconds that a test waits for what must come."""

PICTURE = generate.ROOT / "examples" / "picture.jpg"

MODEL = """
import os
import time
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    text: str
    do: str = ""

class Output(BaseIO):
    text: str
    together: int
    process: int

@define_model(input=Input, output=Output, batch_size=8)
class Model:
    def setup(self):
        {setup}

    def predict(self, inputs):
        for one in inputs:
            if one.do:
                exec(one.do)
        return [Output(text=one.text, together=len(inputs), process=os.getpid()) for one in inputs]
"""
FAILS = "raise ValueError('too dark')"


def folder_with(path, setup="pass"):
    path.mkdir()
    (path / "tungsten_model.py").write_text(MODEL.format(setup=setup))
    return path


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder of temporary files, which is empty after each model."""
    folder, before = tmp_path_factory.mktemp("tmp"), tempfile.tempdir
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def model(temporary, tmp_path_factory):
    with models.get(folder_with(tmp_path_factory.mktemp("model") / "m"), local=True) as one:
        yield one
        session, address = session_of(one), address_of(one)
    assert session_is_empty(session)
    assert refuses(address)


def session_of(model):
    """The session that all processes of a model's server are in."""
    return model._serving._made.server.pid


def address_of(model):
    host, _, port = model.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def processes(session):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if after[3] == str(session) and after[0] != "Z":
            found.append(int(path.parent.name))
    return found


def session_is_empty(session):
    """Whether it is by and by: a process that has been killed takes a moment."""
    deadline = time.monotonic() + PATIENCE
    while processes(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes(session) == []


def refuses(address):
    with socket.socket() as client:
        return client.connect_ex(address) != 0


def test_threads_and_an_event_loop_have_one_server(model):
    """The server makes batches of what comes from all of them."""
    with ThreadPoolExecutor(16) as pool:
        outputs = list(pool.map(lambda number: model.predict({"text": str(number)}), range(160)))
    assert [out.text for out in outputs] == [str(number) for number in range(160)]

    async def together():
        asked = [model.predict_async({"text": str(number)}) for number in range(160)]
        return await asyncio.gather(*asked)

    others = asyncio.run(together())
    assert [out.text for out in others] == [str(number) for number in range(160)]
    many = list(model.predict_many({"text": str(number)} for number in range(160)))
    assert [out.text for out in many] == [str(number) for number in range(160)]
    assert len({out.process for out in [*outputs, *others, *many]}) == 1
    assert max(out.together for out in [*outputs, *others, *many]) > 1


def test_a_failure_is_told_by_the_models_own_line(model):
    with pytest.raises(models.PredictionError) as caught:
        model.predict({"text": "", "do": FAILS})
    first, *frames = caught.value.what.splitlines()
    assert first == "the prediction failed: ValueError: too dark"
    assert "tungsten_model" in frames[1]
    assert caught.value.where == "tungsten_model.py, line 23"
    assert caught.value.reason == "ValueError: too dark"
    assert model.predict({"text": "a"}).text == "a"


def test_of_many_failures_each_is_told_by_its_own(model):
    inputs = [{"text": str(number), "do": f"raise ValueError('of {number}')"} for number in range(4)]
    failed = list(model.predict_many(inputs, return_exceptions=True))
    assert [one.reason for one in failed] == [f"ValueError: of {number}" for number in range(4)]
    assert all("tungsten_model.py, line" in one.where for one in failed)


def test_after_a_crash_it_goes_on_by_itself(model):
    process = model.predict({"text": ""}).process
    with pytest.raises(models.PredictionError):
        model.predict({"text": "", "do": "os._exit(3)"})
    again = model.predict({"text": "a"})
    assert again.text == "a"
    assert again.process != process


def test_what_it_prints_is_logged_and_nothing_is_printed(model, caplog, capfd):
    with caplog.at_level(logging.INFO, "tungstenkit"):
        model.predict({"text": "", "do": "print('hello' + ' there', flush=True)"})
        deadline = time.monotonic() + PATIENCE
        while "hello there" not in caplog.messages and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "hello there" in caplog.messages
    assert capfd.readouterr() == ("", "")


def test_lines_are_logged_whole(caplog):
    say = log_lines()
    with caplog.at_level(logging.INFO, "tungstenkit"):
        for piece in (b"one\ntw", b"o", b"\n\xff\nrest"):
            say(piece)
        Logged().warn("look")
        this = Tungsten.this()
        Logged().made_by_another(this.model_copy(update={"version": "0.1.9"}), this)
        with Logged().working("starting"):
            pass
    made = f"tungsten 0.1.9 has made the lock, and this is {VERSION}"
    assert caplog.messages == ["one", "two", "\ufffd", "look", made, "starting"]


def test_a_setup_that_fails_is_told_once_for_all_and_not_tried_again(tmp_path, temporary):
    folder = folder_with(tmp_path / "m", "open('tried', 'a').write('x'); raise ValueError('no weights')")
    model = models.get(folder, local=True)

    def problem(_):
        with pytest.raises(RunError) as caught:
            model.predict({"text": ""})
        return caught.value

    with ThreadPoolExecutor(4) as pool:
        problems = list(pool.map(problem, range(4)))
    assert {one.what.splitlines()[0] for one in problems} == {"setup fails: ValueError: no weights"}
    assert {one.where for one in problems} == {"tungsten_model.py, line 18"}
    assert (folder / "tried").read_text() == "x"
    model.close()


def begun(folder):
    """Wait until the model's setup is under way."""
    deadline = time.monotonic() + PATIENCE
    while not (folder / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


SLOW = "open('begun', 'w').close(); time.sleep(1000)"


def test_a_start_that_nobody_waits_for_any_more_is_given_up(tmp_path, temporary):
    folder = folder_with(tmp_path / "m", SLOW)
    model = models.get(folder, local=True)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(model.start)
        begun(folder)
        session = session_of(model)
        model.close()
        with pytest.raises(RunError, match="ended before it was ready"):
            starting.result()
    assert session_is_empty(session)
    with pytest.raises(RunError, match="the model is closed"):
        model.start()


def test_an_event_loop_that_is_left_gives_its_start_up(tmp_path, temporary):
    folder = folder_with(tmp_path / "m", SLOW)
    model = models.get(folder, local=True)

    async def cancelled():
        task = asyncio.create_task(model.__aenter__())
        await asyncio.to_thread(begun, folder)
        session = session_of(model)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return session

    assert session_is_empty(asyncio.run(cancelled()))
    model.close()


def test_what_is_wrong_with_an_input_is_told_before_a_server_is_started(tmp_path):
    model = models.get(folder_with(tmp_path / "m", "open('tried', 'w')"), local=True)
    with pytest.raises(RunError, match="did you mean text"):
        model.predict({"txt": ""})
    assert model.url is None
    assert not (tmp_path / "m" / "tried").exists()
    model.close()


def test_what_was_accepted_is_answered_before_the_end(tmp_path, temporary):
    folder = folder_with(tmp_path / "m")
    with ThreadPoolExecutor(1) as pool, models.get(folder, local=True) as model:
        asked = pool.submit(model.predict, {"text": "a", "do": "open('begun', 'w').close(); time.sleep(0.3)"})
        begun(folder)
        model.close()
        assert asked.result().text == "a"


def test_a_server_that_is_gone_is_told_with_its_last_words(tmp_path, temporary):
    with models.get(folder_with(tmp_path / "m"), local=True) as model:
        session = session_of(model)
        os.killpg(session, signal.SIGKILL)
        model._serving._made.server.wait()
        with pytest.raises(RunError, match="the model's server has ended") as caught:
            model.predict({"text": ""})
        assert "it said:" in caught.value.what
    assert session_is_empty(session)


def test_one_that_fails_in_its_setup_is_asked_nothing(tmp_path, temporary, monkeypatch):
    """It may be gone at any moment, and then says less than its log."""
    monkeypatch.setattr(Client, "metadata", None)
    model = models.get(folder_with(tmp_path / "m", FAILS), local=True)
    with pytest.raises(RunError, match="setup fails: ValueError: too dark"):
        model.start()
    model.close()


@pytest.mark.parametrize("name", ["blur", "detection"])
def test_the_examples_requests(name, temporary):
    """Of 16 threads, and of an event loop, by one server each."""
    folder = generate.ROOT / "examples" / name
    with models.get(folder, local=True) as model:
        asked = {
            "blur": [{"image": PICTURE, "radius": 5}, {"image": PICTURE.read_bytes()}],
            "detection": [
                {"image": folder / "shapes.png"},
                {"image": folder / "shapes.png", "min_area": 0.02},
            ],
        }[name]
        alone = [model.predict(one) for one in asked]
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(model.predict, asked * 8)) == alone * 8

        async def together():
            return await asyncio.gather(*map(model.predict_async, asked * 8))

        assert asyncio.run(together()) == alone * 8
        demo = model.predict_demo(asked[0])
        assert demo.output == alone[0]
        session = session_of(model)
    assert session_is_empty(session)
    if name == "blur":
        assert alone[0].image.to_pil_image().size == (640, 420)
    if name == "detection":
        assert {one.label for one in alone[0].detections} >= {"red"}
        assert demo.demo_output.result.to_pil_image().size


def test_the_guides_programs(tmp_path, monkeypatch, temporary):
    """As they stand there, but for what is started: examples/blur in this Python."""
    text = (generate.ROOT / "docs" / "guide.md").read_text()
    section = text.partition("\n## From Python\n")[2].partition("\n## ")[0]
    programs = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    folder = generate.ROOT / "examples" / "blur"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    (tmp_path / "pictures").mkdir()
    for name in ("picture.jpg", "pictures/a.jpg", "pictures/b.jpg"):
        shutil.copy(PICTURE, tmp_path / name)
    with models.get(folder, local=True) as started:
        here = started.url
        said, names = [], {"print": lambda *given: said.append(given)}
        for program in programs:
            local = program.replace('models.get("blur")', f'models.get("{here}")')
            local = local.replace("models.get(Blur)", f'models.get("{here}", model_class=Blur)')
            assert local != program
            exec(local, names)
    assert (tmp_path / "blurred.jpg").stat().st_size
    assert said == [((640, 420),), ((640, 420),), (8,)]
    assert names["output"].image.to_pil_image().size == (640, 420)
    sys.modules.pop("tungsten_model")


PROGRAM = """
import gc, json, os, signal, sys, time, threading
from tungstenkit import models

model = models.get(sys.argv[1], local=True)
assert model.predict({"text": "a"}).text == "a"
print(json.dumps([model._serving._made.server.pid, model.url]), flush=True)

def predict_until(number):
    def wait_and_send():
        while not os.path.exists(os.path.join(sys.argv[1], "begun")):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait_and_send, daemon=True).start()
    model.predict({"text": "", "do": "open('begun', 'w').close(); time.sleep(100)"})

"""
CLOSED = """
model.close()
print(os.listdir(os.environ["TMPDIR"]))
"""
COLLECTED = """
pid = model._serving._made.server.pid
del model
gc.collect()
print(os.path.exists(f"/proc/{pid}"), os.listdir(os.environ["TMPDIR"]))
"""
FORKED = """
child = os.fork()
print(list(model.predict_many([{"text": "b"}]))[0].text, flush=True)
if child == 0:
    sys.exit()
os.waitpid(child, 0)
print(model.predict({"text": "c"}).text)
"""
OUTLIVED = """
child = os.fork()
if child == 0:
    os.close(1)
    os.close(2)
    time.sleep(1000)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
ENDS = {
    "closed": (CLOSED, 0, "[]"),
    "collected": (COLLECTED, 0, "False []"),
    "never closed": ("sys.exit(7)", 7, ""),
    "interrupted": ("predict_until(signal.SIGINT)", -signal.SIGINT, ""),
    "terminated": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    "killed while it predicts": ("predict_until(signal.SIGKILL)", -signal.SIGKILL, ""),
    "after a fork that ends": (FORKED, 0, "b\nb\nc"),
    "before a fork": (OUTLIVED, -signal.SIGKILL, None),
}


@pytest.mark.parametrize("way", ENDS)
def test_nothing_is_left_however_a_program_ends(way, tmp_path):
    end, status, said = ENDS[way]
    (tmp_path / "program.py").write_text(PROGRAM + end)
    (tmp_path / "tmp").mkdir()
    folder = folder_with(tmp_path / "m")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, str(tmp_path / "program.py"), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == status, run.stderr
    first, _, rest = run.stdout.partition("\n")
    session, url = json.loads(first)
    host, _, port = url.removeprefix("http://").rpartition(":")
    assert session_is_empty(session)
    assert refuses((host, int(port)))
    deadline = time.monotonic() + PATIENCE
    while list((tmp_path / "tmp").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((tmp_path / "tmp").iterdir()) == []
    if said is None:
        os.kill(int(rest), signal.SIGKILL)
    else:
        assert rest.strip() == said


def test_an_interruption_of_a_start_leaves_nothing(tmp_path):
    """Whoever is asked to end while a model is set up."""
    (tmp_path / "tmp").mkdir()
    folder = folder_with(tmp_path / "m", SLOW)
    program = "import sys; from tungstenkit import models; models.get(sys.argv[1], local=True).predict({'text': ''})"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        begun(folder)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == -signal.SIGINT, said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(folder).encode() in (path.read_bytes() if path.exists() else b"")
    ]


def test_what_is_wrong_with_a_folder_is_told(tmp_path):
    with pytest.raises(TungstenError, match="no such folder"):
        models.get(tmp_path / "none", local=True).predict({})
