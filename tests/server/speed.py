"""How fast the server is, beside a bare WSGI function on waitress: for a maintainer to run, and no part of the tests.

    PYTHONPATH=.:server python tests/server/speed.py [--rounds 5] [--seconds 3]

It needs `wrk`. In each round both get the same load for a few seconds, one after the other, so that what else the
machine does hits both; ratios are taken within a round. CPU time per request, of the server and of all
that it has started, depends least on the neighbours.
"""

import argparse
import base64
import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import PIL.Image

from tests.server.conftest import running_server

CONNECTIONS = 64
BATCH = 16

PICTURE_MODEL = """
import PIL.ImageFilter
from tungstenkit import BaseIO, Image, define_model

class Input(BaseIO):
    picture: Image

class Output(BaseIO):
    picture: Image

@define_model(input=Input, output=Output, batch_size=4)
class Model:
    def predict(self, inputs):
        blur = PIL.ImageFilter.GaussianBlur(2)
        pictures = [one.picture.to_pil_image().filter(blur) for one in inputs]
        return [Output(picture=Image.from_pil_image(picture)) for picture in pictures]
"""

MODEL = """
import time
from tungstenkit import BaseIO, define_model

class Input(BaseIO):
    x: int

class Output(BaseIO):
    x: int

@define_model(input=Input, output=Output, batch_size=16)
class Model:
    def predict(self, inputs):
        if SECONDS:
            time.sleep(SECONDS)
        return [Output(x=i.x) for i in inputs]
"""

SPEC = {
    "spec-version": 1,
    "name": "speed",
    "module": "tungsten_model",
    "class": "Model",
    "batch-size": BATCH,
    "input-schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    "output-schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    "demo-output-schema": None,
}

FILE = {"type": "string", "format": "uri", "x-file-type": "image"}
PICTURE_SCHEMA = {"type": "object", "properties": {"picture": FILE}, "required": ["picture"]}
PICTURE_SPEC = {
    **SPEC,
    "batch-size": 4,
    "input-schema": PICTURE_SCHEMA,
    "output-schema": PICTURE_SCHEMA,
}

FLOOR = """
import sys, waitress

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=4, connection_limit=1000)
"""

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '[{"x": 1}]'
"""


PICTURE_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = io.open(os.getenv("PICTURE_BODY"), "rb"):read("*a")
"""


def picture_body():
    """An input with a picture of 256 times 256 pixels that is neither flat nor noise."""
    small = PIL.Image.frombytes("RGB", (32, 32), random.Random(1).randbytes(32 * 32 * 3))
    buffer = io.BytesIO()
    small.resize((256, 256), PIL.Image.Resampling.BICUBIC).save(buffer, "PNG")
    picture = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return json.dumps([{"picture": picture}])


def children(pid):
    """The process and all that it has started."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended
            for child in (thread / "children").read_text().split():
                found += children(int(child))
    return found


def cpu_seconds(pid):
    ticks = 0
    for one in children(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_megabytes(pid):
    return (
        sum(
            int(re.search(r"Pss:\s+(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text()).group(1))
            for one in children(pid)
        )
        / 1000
    )


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def load(port, pid, script, seconds, connections=CONNECTIONS):
    """Requests a second, 99th percentile in ms, CPU ms for each request."""
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", script]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/predict"], capture_output=True, text=True, check=True
    ).stdout
    cpu = cpu_seconds(pid) - before
    assert "Non-2xx" not in out, out
    assert "Socket errors" not in out, out
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    return rate, milliseconds(re.search(r"99%\s+(\S+)", out).group(1)), 1000 * cpu / requests


@contextmanager
def server(folder, model, spec=SPEC, *flags):
    folder.mkdir()
    with running_server(folder, *flags, model=model, spec=spec) as one:
        yield one.port, one.process.pid


@contextmanager
def floor():
    port = 20_000 + os.getpid() % 20_000
    process = subprocess.Popen([sys.executable, "-c", FLOOR, str(port)], stderr=subprocess.DEVNULL)
    try:
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def row(name, values):
    rates, tails, cpus = zip(*values, strict=True)
    low, high = min(rates), max(rates)
    print(
        f"{name:22} {statistics.median(rates):8.0f}/s ({low:.0f} to {high:.0f})"
        f"  p99 {statistics.median(tails):6.1f} ms (to {max(tails):.1f})"
        f"  {statistics.median(cpus):.3f} ms CPU (from {min(cpus):.3f})"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["noop", "single", "floor", "busy", "picture"])
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("error: wrk is missing\n  in:   PATH\n  hint: apt install wrk")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script = folder / "post.lua"
        script.write_text(SCRIPT)
        pictures = folder / "pictures.lua"
        pictures.write_text(PICTURE_SCRIPT)
        os.environ["PICTURE_BODY"] = str(folder / "picture.json")
        (folder / "picture.json").write_text(picture_body())
        noop = MODEL.replace("SECONDS", "0")
        all_runs = {
            "noop": lambda: server(folder / "noop", noop),
            "single": lambda: server(folder / "single", noop, SPEC, "--max-batch-size", "1"),
            "floor": floor,
            "busy": lambda: server(folder / "busy", MODEL.replace("SECONDS", "0.01")),
            "picture": lambda: server(folder / "picture", PICTURE_MODEL, PICTURE_SPEC),
        }
        loads = dict.fromkeys(all_runs, (script, CONNECTIONS))
        loads["picture"] = (pictures, 8)
        runs = {name: stack.enter_context(all_runs[name]()) for name in arguments.only}
        time.sleep(1)
        for name, (_, pid) in runs.items():
            print(f"{name}: {pss_megabytes(pid):.1f} MB PSS at rest")
        for name, (port, pid) in runs.items():
            load(port, pid, loads[name][0], 1, loads[name][1])
        results = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, (port, pid) in runs.items():
                results[name].append(load(port, pid, loads[name][0], arguments.seconds, loads[name][1]))
        for name, values in results.items():
            row(name, values)
        if "noop" in results and "floor" in results:
            ratios = [a[0] / b[0] for a, b in zip(results["noop"], results["floor"], strict=True)]
            print("noop / floor", " ".join(f"{ratio:.2f}" for ratio in ratios))
        if "busy" in results:
            print("busy / ideal", " ".join(f"{one[0] * 0.01 / BATCH:.3f}" for one in results["busy"]))


if __name__ == "__main__":
    main()
