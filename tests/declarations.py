"""A table of what people ship: for each declaration what is locked, against what pip would install, and how long it
takes. Run by hand, for it asks today's mirrors for gigabytes; the newest table is `declarations.md` beside it.

    python -m tests.declarations [--build] [--results FILE] [NAME…]

locks a model of each (all of the table, or those of a name), and asks pip what it would install for the same Python.
With --build, the image is built, where the module is imported in its own root. Each result is added to FILE, one line
of JSON, and what is there is not tried again; the table is printed at the end.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import Version

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
"""pip decides environment markers by the Python that it runs on, so that is what is locked as well."""
MODEL = """\
{imports}
from tungstenkit import BaseIO, define_model


class Text(BaseIO):
    text: str


@define_model(input=Text, output=Text, python_packages={packages!r}{more})
class Model:
    def predict(self, inputs):
        return inputs
"""


class Declaration(NamedTuple):
    name: str
    packages: tuple[str, ...]
    imports: tuple[str, ...]
    more: str = ""
    """Further arguments, as they are written."""
    settings: str = ""
    """The `pyproject.toml` beside it."""


def declare(name, packages, imports, *further):
    return Declaration(name, tuple(packages.split()), tuple(imports.split()), *further)


GPU = "gpu=True"
TABLE = (
    # Vision
    declare("pillow", "pillow numpy", "PIL.Image numpy"),
    declare("opencv", "opencv-python numpy", "cv2"),
    declare("scikit-image", "scikit-image opencv-python-headless", "skimage.filters cv2"),
    declare("yolo", "ultralytics", "ultralytics", GPU),
    declare("torchvision", "torch torchvision", "torchvision", GPU),
    declare("timm", "timm torch pillow", "timm", GPU),
    declare("onnxruntime", "onnxruntime pillow numpy", "onnxruntime"),
    declare("onnxruntime-gpu", "onnxruntime-gpu numpy", "onnxruntime", GPU),
    declare("mediapipe", "mediapipe", "mediapipe"),
    declare("easyocr", "easyocr", "easyocr", GPU),
    declare("tesseract", "pytesseract pillow", "pytesseract", 'system_packages=["tesseract-ocr"]'),
    declare("insightface", "insightface onnxruntime", "insightface"),
    declare("rembg", "rembg[cpu]", "rembg"),
    declare("diffusers", "diffusers transformers accelerate torch safetensors", "diffusers", GPU),
    declare("pdf", "pdf2image pypdf", "pdf2image pypdf", 'system_packages=["poppler-utils"]'),
    declare("pyvips", "pyvips", "pyvips", 'system_packages=["libvips42"]'),
    declare("paddleocr", "paddleocr paddlepaddle", "paddleocr"),
    # Speech
    declare("whisper", "openai-whisper", "whisper", f'{GPU}, system_packages=["ffmpeg"]'),
    declare("faster-whisper", "faster-whisper", "faster_whisper"),
    declare("librosa", "librosa soundfile", "librosa soundfile"),
    declare("pyannote", "pyannote.audio", "pyannote.audio", GPU),
    declare("demucs", "demucs", "demucs", GPU),
    declare("vosk", "vosk", "vosk"),
    declare("webrtcvad", "webrtcvad noisereduce", "webrtcvad"),
    declare("webrtcvad, as its error says", "webrtcvad noisereduce setuptools<81", "webrtcvad"),
    declare("piper", "piper-tts", "piper"),
    # Text
    declare("transformers", "transformers torch", "transformers torch", GPU),
    declare("sentence-transformers", "sentence-transformers", "sentence_transformers", GPU),
    declare("vllm", "vllm", "vllm", GPU),
    declare("spacy", "spacy", "spacy"),
    declare("fasttext", "fasttext", "fasttext"),
    declare("llama-cpp", "llama-cpp-python", "llama_cpp"),
    declare(
        *("llama-cpp, as its error says", "llama-cpp-python", "llama_cpp", ""),
        '[tool.tungsten.build.llama-cpp-python]\nrequires = ["cmake>=3.21", "ninja>=1.5"]\n',
    ),
    declare("ctranslate2", "ctranslate2 sentencepiece", "ctranslate2 sentencepiece"),
    declare("gensim", "gensim nltk", "gensim nltk"),
    declare("bertopic", "bertopic", "bertopic", GPU),
    declare("tokenizers", "tokenizers tiktoken regex", "tokenizers tiktoken"),
    # Tables and time series
    declare("scikit-learn", "scikit-learn pandas joblib", "sklearn.ensemble pandas"),
    declare("xgboost", "xgboost pandas", "xgboost"),
    declare("lightgbm", "lightgbm scikit-learn", "lightgbm"),
    declare("catboost", "catboost", "catboost"),
    declare("prophet", "prophet", "prophet"),
    declare("statsmodels", "statsmodels shap polars duckdb pyarrow", "statsmodels.api polars duckdb pyarrow"),
    declare("geopandas", "geopandas rasterio", "geopandas rasterio"),
    # Frameworks
    declare("tensorflow", "tensorflow", "tensorflow"),
    declare("keras-gpu", "tensorflow[and-cuda]", "tensorflow", GPU),
    declare("jax", "jax[cuda12] flax", "jax flax", GPU),
    declare("lightning", "pytorch-lightning hydra-core", "hydra", GPU),
    declare("cupy", "cupy-cuda12x", "cupy", GPU),
)


def run(command, **options):
    """How a command ended, after how many seconds, and how many megabytes it wrote to files."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    # Blocks of 512 bytes, as getrusage(2) has it.
    written = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - before
    return done, round(time.monotonic() - began, 1), written * 512 // 10**6


def pips_choice(packages):
    """What pip would install, as its report has it; or its last words."""
    command = [*(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # Constraints are a machine's own; an empty variable would say nothing.
        without = {**os.environ, "PIP_CONSTRAINT": os.devnull}
        done, *_ = run([*command, "--report", str(report), *packages], env=without)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        installed = json.loads(report.read_text())["install"]
    return {canonicalize_name(one["metadata"]["name"]): one["metadata"] for one in installed}


def differences(pips, locked, told):
    """For each project of pip's with another version in the lock: what differs, and what the lock says of it."""
    names = [name for name, what in pips.items() if not is_locked(name, what, locked)]
    found = []
    for name in sorted(names):
        # `xgboost-cpu` may stand for `xgboost`.
        word = re.compile(rf"(?<![\w-]){re.escape(name)}(?!\w|-(?!cpu))", re.IGNORECASE)
        why = [line for line in told if word.search(line.replace("_", "-").replace(".", "-"))]
        asking = [one for one, what in pips.items() if name in map(project_of, what.get("requires_dist", ()))]
        if not why and asking and set(asking) <= set(names):
            why = [f"only {', '.join(asking)} asks for it"]
        ours, theirs = locked.get(name, "left out"), pips[name]["version"]
        found.append([f"{name} {ours} (pip: {theirs})", why[0] if why else None])
    return found


def is_locked(name, what, locked):
    return name in locked and Version(locked[name]) == Version(what["version"])


def project_of(requirement):
    return canonicalize_name(re.match(r"[\w.-]+", requirement).group())


def locked_of(path):
    """The versions that a lock has for this machine, and all that it says of its choices."""
    lock = json.loads(path.read_text())
    (platform,) = lock["platforms"].values()
    projects = [*platform["wheels"], *platform.get("sources", [])]
    versions = {one["project"]: one["version"] for one in projects}
    return versions, [f"{one['subject']}: {one['chosen']}: {one['reason']}" for one in lock["choices"]]


def try_one(declared, build):
    result = {"name": declared.name, "packages": declared.packages, "more": declared.more}
    tungsten = [sys.executable, "-m", "tungstenkit"]
    with tempfile.TemporaryDirectory(prefix="declared-") as folder:
        model = Path(folder) / re.sub(r"\W", "-", declared.name)
        model.mkdir()
        (model / "tungsten_model.py").write_text(
            MODEL.format(
                imports="\n".join(f"import {one}" for one in declared.imports),
                packages=list(declared.packages),
                more=f", {declared.more}" if declared.more else "",
            )
        )
        if declared.settings:
            (model / "pyproject.toml").write_text(declared.settings)
        done, result["lock seconds"], result["MB written"] = run(
            [*tungsten, "lock", "--python", RUNNING, str(model)]
        )
        said = done.stderr.splitlines()
        if done.returncode == 0:
            done, *_ = run([*tungsten, "lock", "--check", str(model)])
        if done.returncode != 0:
            return {**result, "error": done.stderr.strip()[-1500:]}
        versions, told = locked_of(model / "tungsten.lock")
        pips = pips_choice(declared.packages)
        result["wheels"] = len(versions)
        if isinstance(pips, str):
            result["pip"] = pips
        else:
            result["same"] = sum(is_locked(one, what, versions) for one, what in pips.items())
            result["differ"] = differences(pips, versions, [*told, *said])
        if build:
            done, result["build seconds"], _ = run([*tungsten, "build", str(model)])
            if done.returncode != 0:
                result["build error"] = done.stderr.strip()[-1500:]
    return result


def cells(one):
    yield one["name"]
    yield " ".join(f"`{name}`" for name in one["packages"]) + (f", {one['more']}" if one["more"] else "")
    yield str(one["lock seconds"])
    yield str(one["MB written"])
    if "error" in one:
        yield from ("", f"refused, {message(one['error'])}", "")
        return
    yield str(one["wheels"])
    if "pip" in one:
        yield f"pip itself fails: {one['pip'][:200]}"
    else:
        words = [f"{what}: {why or 'NOT EXPLAINED'}" for what, why in one["differ"]]
        yield "; ".join([f"{one['same']} equal", *words])
    if "build error" in one:
        yield f"fails, {message(one['build error'])}"
    else:
        yield f"yes, {one['build seconds']} s" if "build seconds" in one else ""


def message(text):
    """What an error says, and its hint."""
    lines = [line.strip() for line in text.splitlines()]
    return " / ".join(line for line in lines if line.startswith(("error:", "hint:")))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--results", type=Path, default=Path("declarations.jsonl"))
    arguments = parser.parse_args()
    known = {}
    if arguments.results.exists():
        known = {one["name"]: one for one in map(json.loads, arguments.results.read_text().splitlines())}
    asked = [one for one in TABLE if not arguments.names or one.name in arguments.names]
    for declared in asked:
        old = known.get(declared.name)
        if old and (not arguments.build or {"build seconds", "error"} & old.keys()):
            continue
        print(f"{declared.name} …", file=sys.stderr, flush=True)
        known[declared.name] = try_one(declared, arguments.build)
        with arguments.results.open("a") as results:
            results.write(json.dumps(known[declared.name]) + "\n")
    print(
        "| | declared | lock, s | MB written | wheels | versions, against pip's | built and imported |\n"
        + "|---" * 7
        + "|"
    )
    for declared in asked:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells(known[declared.name])) + " |")


if __name__ == "__main__":
    main()
