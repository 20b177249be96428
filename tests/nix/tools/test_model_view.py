"""What a build step sees of a model: editing what only a server calls changes nothing, all else does."""

import ast
import hashlib
import importlib.util
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.nix.conftest import LIB
from tests.nix.tools.test_layer import OTHER_PYTHONS

SPEC = importlib.util.spec_from_file_location("model_view", LIB / "model_view.py")
view = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(view)

MODULE = """\
# before: the class
import os

class Model:
    '''Doc.'''
    SIZE = 3

    @decorator(lambda: 1)
    def setup(self):
        {setup}

    def predict(self, inputs):
        {predict}

    # of the next: one
    async def predict_demo(
        self, inputs: dict[str, int] = {{"a": 1}},  # a: comment
        *,
        extra=lambda: 0,
    ) -> "a: b":  # another: comment
        {demo}

    @staticmethod
    def post_build():
        pass


class Other:
    def predict(self):
        return 1
"""


def made(**bodies):
    bodies = {"setup": "pass", "predict": "pass", "demo": "pass", **bodies}
    return MODULE.format(**bodies)


def seen(text, name="Model"):
    return view.without_serving(text.encode(), name).decode()


PLAIN = seen(made())
BODIES = [
    "return 1",
    "'''Only words.'''",
    "x = 1\n\n        # a comment\n        return x",
    "if self:\n            return 1\n        else:\n            return 2\n\n\n        # at the end\n",
    "return [\n1,\n# dedented\n]",
    "text = '''\nclass Model:\n  def setup(self): pass\n'''",
    "return 1; ",
    "return 1 + \\\n  2",
    "def predict(self):\n            return 3\n        return predict",
    "yield 'ä€😀'  # ünïcode",
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("method", ["setup", "predict", "demo"])
def test_a_body_does_not_show(body, method):
    assert seen(made(**{method: body})) == PLAIN


@given(bodies=st.fixed_dictionaries(dict.fromkeys(["setup", "predict", "demo"], st.sampled_from(BODIES))))
def test_bodies_do_not_show_together(bodies):
    assert seen(made(**bodies)) == PLAIN


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SIZE = 3", "SIZE = 4"),
        ("lambda: 1", "lambda: 2"),
        ("def setup(self)", "def setup(this)"),
        ("# before: the class", "# before"),
        ("pass\n\n\nclass", "return\n\n\nclass"),
        ("return 1", "return 2"),
        ("# of the next: one", "# of the next: two"),
    ],
)
def test_all_else_shows(old, new):
    assert old in made()
    assert seen(made().replace(old, new)) != PLAIN


def test_what_remains_is_the_same_module_and_says_what_is_missing():
    namespace = {"decorator": lambda _argument: lambda function: function}
    exec(compile(PLAIN, "m", "exec"), namespace)
    with pytest.raises(RuntimeError, match="predict is not there while the image is built"):
        namespace["Model"]().predict([])
    assert namespace["Other"]().predict() == 1
    assert namespace["Model"].post_build() is None


@pytest.mark.parametrize(
    "text",
    [
        "class Model:\n    def predict(self): return 1\n",
        "class Model:\n    def predict(self): return 1",
        "class Model:\n  def predict \\\n    (self): x = 1; return x ;  # c\n  y = 2\n",
        "class Model:\n\tdef predict(self):\n\t\treturn 1\n\t# of the class\n\tx = 1\n",
        "class Outer:\n    class Model:\n        def predict(self):\n            return 1\n",
        "if True:\n    class Model:\n        if 1:\n            def predict(self):\n                return 1\n",
        "class Model:\n    def predict(self):\n        return 1\n    def setup(self):\n        return 1\n",
        "class Model:\n    def predict(self):\n        return 1\n\n\n\n",
        "class Model:\r\n    def predict(self):\r\n        return 1\r\n\r\n    x = 1\r\n",
        "class Model:\r    def predict(self):\r        return 1\r    x = 1\r",
        "\f\nclass Model:\n    def predict(self, a={1: 2}, *b: int, **c: 'x:y'):\n        return 1\n",
        "class Model:\n    def predict(self, a, /) -> (int):\n        return 1\n",
        "class Model:\n    def predict(  # no: colon\n        self\n    ):\n        return 1\n",
    ],
)
def test_each_way_to_write_it(text):
    """The rest parses to the same tree, the body is one statement, and another body makes no difference."""
    found = seen(text)
    expected = ast.parse(text)
    raising = ast.parse('raise RuntimeError("{} is not there while the image is built")')
    for node in ast.walk(expected):
        if isinstance(node, ast.FunctionDef) and node.name in view.SERVING_METHODS:
            node.body = ast.parse(ast.unparse(raising).format(node.name)).body
    assert ast.dump(ast.parse(found)) == ast.dump(expected)
    assert seen(text.replace("return 1", "return  11")) == found.replace("x = 1; return x", "x")


def test_the_encoding_and_a_mark_stay():
    text = "# -*- coding: latin-1 -*-\nNAME = 'é'\nclass Model:\n    def predict(self):\n        return 'ü'\n"
    found = view.without_serving(text.encode("latin-1"), "Model")
    assert "NAME = 'é'".encode("latin-1") in found
    assert "ü".encode("latin-1") not in found
    marked = b"\xef\xbb\xbfclass Model:\n    def predict(self):\n        return 1\n"
    assert view.without_serving(marked, "Model").startswith(b"\xef\xbb\xbfclass Model:")


def test_what_is_not_python_is_an_error():
    for source in (b"class Model:\n  def\n", b"\xff\xff", b"# coding: nothing\n"):
        with pytest.raises(ValueError, match="not Python"):
            view.without_serving(source, "Model")


@pytest.mark.parametrize("python", OTHER_PYTHONS)
def test_every_python_makes_the_same_bytes(python, tmp_path):
    source = made(predict=BODIES[3]).replace("list[", "List[")
    (tmp_path / "model.py").write_text(source)
    program = "import sys, model_view; sys.stdout.buffer.write("
    program += "model_view.without_serving(open(sys.argv[1], 'rb').read(), 'Model'))"
    run = subprocess.run(
        [python, "-c", program, tmp_path / "model.py"], cwd=LIB, capture_output=True, check=True
    )
    assert run.stdout.decode() == PLAIN


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "tungsten_model.py").write_text(made(predict="return 1"))
    (folder / "data" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "data" / "run.sh").chmod(0o755)
    (folder / "data" / "link").symlink_to("run.sh")
    (folder / "unseen.txt").write_text("")
    files = {
        "tungsten_model.py": hashlib.sha256(PLAIN.encode()).hexdigest(),
        "data/run.sh": hashlib.sha256(b"#!/bin/sh\n").hexdigest() + " x",
        "data/link": "-> run.sh",
    }
    return {"model": str(folder), "module": "tungsten_model", "class": "Model", "files": files, "big": {}}


def test_the_view_holds_what_was_recorded_and_no_more(model, tmp_path, run_tool):
    done = run_tool("post_build_view.py", model, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} == set(
        model["files"]
    )
    assert (out / "tungsten_model.py").read_text() == PLAIN
    assert (out / "data" / "run.sh").stat().st_mode & 0o111 == 0o111
    assert (out / "data" / "link").readlink().as_posix() == "run.sh"


def test_a_view_of_other_files_is_refused_by_name(model, tmp_path, run_tool):
    """An image must not have the result of files that it has not."""
    files = {**model["files"], "gone.txt": "0" * 64, "data/run.sh": "0" * 64}
    done = run_tool("post_build_view.py", {**model, "files": files}, tmp_path / "out")
    assert done.returncode == 1
    assert "the lock is stale" in done.stderr
    assert "data/run.sh, gone.txt is gone" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_big_file_is_known_by_its_hash_and_is_not_in_the_view(model, tmp_path, run_tool):
    recorded = "1" * 64 + " x"
    seen = {**model, "files": {**model["files"], "weights": recorded}}
    assert (
        run_tool("post_build_view.py", {**seen, "big": {"weights": recorded}}, tmp_path / "out").returncode
        == 0
    )
    assert not (tmp_path / "out" / "weights").exists()
    done = run_tool("post_build_view.py", {**seen, "big": {"weights": "2" * 64}}, tmp_path / "other")
    assert done.returncode == 1
    assert "post_build saw other files when it was made: weights" in done.stderr
