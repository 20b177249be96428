"""What `make image` does: build a model's image, start it, send it one real picture, and say what came back.

It is started by podman or docker; where there is neither, its root is run without.

    python examples/try_image.py examples/blur

Everything goes through the `tungsten` command and HTTP, as a user would. Where a file that the
example's lock names has left every mirror, the example is locked again, and the digest will differ from the
documented one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TUNGSTEN = [sys.executable, "-m", "tungstenkit"]
PICTURE = ROOT / "examples" / "picture.jpg"
GONE = 3

ENGINE_ARGS = [
    *("--read-only", "--tmpfs=/tmp"),  # no more is needed
    # crun and the default limits fail on virtual machines such as CI's.
    *(["--runtime=runc"] if shutil.which("runc") else []),
    *("--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"),
]


def tungsten(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours; its progress goes to this terminal."""
    return subprocess.run([*TUNGSTEN, *arguments], stdout=subprocess.PIPE, text=True, check=False)


def build(model: Path) -> dict[str, str]:
    """Fetch, build and load; lock again first where a file is gone."""
    if tungsten("fetch", str(model)).returncode == GONE:
        print(
            "A file that the lock names has left every mirror: locking again. The digest will differ.",
            flush=True,
        )
        if tungsten("lock", "--upgrade", str(model)).returncode != 0:
            sys.exit(1)
    built = tungsten("build", str(model), "--json", "--out-link", str(ROOT / "result"))
    if built.returncode != 0:
        sys.exit(1)
    return json.loads(built.stdout)


@contextlib.contextmanager
def running(model: Path, image: dict[str, str]):
    """The image, started; its base URL once it is ready."""
    by_name = [image["reference"], *(f"--engine-arg={argument}" for argument in ENGINE_ARGS)]
    command = [*TUNGSTEN, "serve", "--port=0", *(by_name if image["engine"] else [str(model)])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        if not url:
            sys.exit("error: the image did not become ready")
        try:
            yield url
        finally:
            server.terminate()


def picture_input(schema: dict) -> dict:
    """An input with our picture in its image field, and a sentence in each text that must be given."""
    picture = "data:image/jpeg;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
    return {
        name: picture if schema["properties"][name].get("x-file-type") == "image" else "Tungstenkit on Nix"
        for name in schema["required"]
    }


def main() -> None:
    """Build, start, ask, report."""
    model = Path(sys.argv[1])
    image = build(model)
    with running(model, image) as url:
        with urllib.request.urlopen(url, timeout=30) as answer:
            schema = json.load(answer)["input_schema"]
        request = urllib.request.Request(
            f"{url}/predict",
            json.dumps([picture_input(schema)]).encode(),
            {"Content-Type": "application/json"},
        )
        begin = time.monotonic()
        with urllib.request.urlopen(request, timeout=120) as answer:
            prediction = json.load(answer)
        seconds = time.monotonic() - begin
    if prediction["status"] != "success":
        sys.exit(f"error: the prediction failed: {prediction['error_message']}")
    print(f"prediction  {len(json.dumps(prediction['outputs']))} bytes of JSON in {seconds:.2f} s")
    print(f"image       {int(image['size']) / 1e6:.1f} MB, packed")
    print(f"digest      {image['digest']}")
    where = f"{image['reference']} here; elsewhere " if image["engine"] else ""
    print(f"image       {where}`podman load < result`, which names it")


if __name__ == "__main__":
    main()
