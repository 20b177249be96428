"""What ships is what the patterns say, and never what must not."""

import ast
import json
import os
import re
import socket

import pytest

from tungstenkit.cache import cache_folder
from tungstenkit.sdk.errors import SpecError
from tungstenkit.sdk.wishes import DEFAULT_EXCLUDE_FILES, DEFAULT_INCLUDE_FILES
from tungstenkit.spec import secrets as secrets_module
from tungstenkit.spec.files import (
    RESULTS,
    Leftover,
    ModelFile,
    excluding,
    including,
    is_export,
    leftovers,
    pattern_of,
    select_files,
    would_ship,
)
from tungstenkit.spec.secrets import secrets


def write(directory, *names, text=""):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "model"
    write(directory, "tungsten_model.py")
    return directory


def selected(model, include=DEFAULT_INCLUDE_FILES, exclude=DEFAULT_EXCLUDE_FILES, **arguments):
    return select_files(model, include, exclude, "tungsten_model", **arguments)


def paths(model, *arguments, **keywords):
    return [file.path for file in selected(model, *arguments, **keywords)]


def test_the_default_leaves_out_hidden_files_and_byte_code(model):
    write(model, "a.txt", "data/b.bin", "data/c.pyc", "pkg/__pycache__/x.py", "x.pyo", "x.pyd")
    write(model, ".env", ".netrc", ".venv/lib.py", "data/.hidden", "data/.cache/x")
    assert paths(model) == ["a.txt", "data/b.bin", "tungsten_model.py"]


def test_a_list_of_ones_own_replaces_the_default(model):
    write(model, ".hidden", "a.pyc", "b.txt")
    assert paths(model, exclude=["b.txt"]) == [".hidden", "a.pyc", "tungsten_model.py"]


def test_patterns_are_gitignore_s(model):
    write(model, "a/x.txt", "b/x.txt", "b/y.txt", "c/b/x.txt", "x.txt")
    assert paths(model, exclude=["/x.txt", "b/"]) == ["a/x.txt", "tungsten_model.py"]
    assert paths(model, exclude=["*.txt", "!y.txt"]) == ["b/y.txt", "tungsten_model.py"]
    assert paths(model, exclude=["**/b/x.txt", "# comment", ""]) == [
        "a/x.txt",
        "b/y.txt",
        "tungsten_model.py",
        "x.txt",
    ]
    assert paths(model, include=["b/*", "!y.txt"]) == ["b/x.txt", "tungsten_model.py"]


def test_the_module_is_always_included(model):
    assert paths(model, include=[]) == ["tungsten_model.py"]


def test_the_module_may_be_a_package(tmp_path):
    write(tmp_path, "pkg/model/__init__.py", "pkg/model/net.py")
    assert [f.path for f in select_files(tmp_path, ["net.py"], [], "pkg.model")] == [
        "pkg/model/__init__.py",
        "pkg/model/net.py",
    ]


@pytest.mark.parametrize("pattern", ["*.py", "/tungsten_model.py", "*"])
def test_an_excluded_module_is_an_error(model, pattern):
    with pytest.raises(SpecError, match="leaves out the model's own module, tungsten_model") as caught:
        selected(model, exclude=[pattern])
    lists = pasted(caught.value.hint)
    assert lists["exclude"][-2:] == [pattern, "!tungsten_model.py"]
    assert paths(model, **lists) == ["tungsten_model.py"]


def test_a_wrong_pattern_is_an_error(model):
    with pytest.raises(SpecError, match="exclude_files"):
        selected(model, exclude=["!"])


def test_what_tungsten_keeps_never_ships(model):
    write(model, ".git/config", "sub/.git", ".tungsten/root", "tungsten.lock", "kept/result")
    write(model, "export/nix/x.nix", "export/flake.nix", "flake/flake.nix", "data/spec.json")
    (model / "export/spec.json").write_text(json.dumps({"spec-version": 1}))
    write(model, f"{RESULTS}/image.png", f"sub/{RESULTS}/image.png")
    write(model, "earlier/nix-cache-info", "earlier/nar/x.nar")
    write(model, "carried/oci-layout", "carried/take.sh", "carried/blobs/sha256/x", "image/oci-layout")
    for name in ("result", "result-1", "sub/result-image"):
        (model / name).symlink_to("/nix/store/x")
    (model / "sub" / ".tungsten").symlink_to("..")
    (model / "image.tar").symlink_to(f"/nix/store/{'0' * 32}-blur.tar")
    assert paths(model, exclude=[]) == [
        "data/spec.json",
        "flake/flake.nix",
        "image/oci-layout",
        "kept/result",
        "tungsten_model.py",
    ]


def test_ignored_paths_never_ship(model):
    write(model, "out/a", "b")
    (model / "c").symlink_to("b")
    (model.parent / "alias").symlink_to(model)
    assert paths(model, ignore=[model / "out", model.parent / "alias/b", model / "c"]) == [
        "tungsten_model.py"
    ]


def test_the_order_does_not_depend_on_the_file_system(model):
    write(model, *(f"{name}/{name}" for name in "zyxab"), "a-b", "B")
    assert paths(model) == sorted(paths(model))


def test_kinds(model):
    write(model, "run.sh", "data/a")
    (model / "run.sh").chmod(0o755)
    (model / "link").symlink_to("data/a")
    (model / "folder").symlink_to("./data")
    (model / "data/up").symlink_to("../run.sh")
    assert selected(model) == [
        ModelFile("data/a", "file"),
        ModelFile("data/up", "link", target="../run.sh"),
        ModelFile("folder", "link", target="data"),
        ModelFile("link", "link", target="data/a"),
        ModelFile("run.sh", "file", executable=True),
        ModelFile("tungsten_model.py", "file"),
    ]


def test_an_absolute_link_into_the_folder_becomes_relative(model):
    write(model, "weights/a")
    (model / "deep/er").mkdir(parents=True)
    (model / "deep/er/a").symlink_to(model / "weights/a")
    (model / "deep/all").symlink_to(model / "weights")
    targets = {file.path: file.target for file in selected(model) if file.kind == "link"}
    assert targets == {"deep/er/a": "../../weights/a", "deep/all": "../weights"}


@pytest.mark.parametrize("make", ["pipe", "endless", "deep"])
def test_what_looks_like_an_export_is_read_to_an_end(tmp_path, make):
    """It lies in the folder of a model, or is what `verify --inputs` names: somebody else's."""
    write(tmp_path, "flake.nix")
    spec = tmp_path / "spec.json"
    if make == "pipe":
        os.mkfifo(spec)
    elif make == "endless":
        spec.symlink_to("/dev/zero")
    else:
        spec.write_text("[" * 100_000)
    assert not is_export(tmp_path)
    spec.unlink()
    write(tmp_path, "spec.json", text='{"spec-version": 1}')
    assert is_export(tmp_path)


def test_everything_that_cannot_ship_is_named(model, tmp_path):
    write(tmp_path, "outside")
    write(model, "secret/a")
    (model / "a-absolute").symlink_to(tmp_path / "outside")
    (model / "b-relative").symlink_to("../outside")
    (model / "c-dangling").symlink_to("nowhere")
    (model / "d-loop").symlink_to("d-loop")
    (model / "e-excluded").symlink_to("secret/a")
    (model / "f-excluded-folder").symlink_to("secret")
    os.mkfifo(model / "g-pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(model / "h-socket"))
    with pytest.raises(SpecError) as caught:
        selected(model, exclude=["secret/"])
    lines = caught.value.what.splitlines()[1:]
    assert [line.partition(":")[0] for line in lines] == sorted(
        path.name for path in model.iterdir() if path.name[1] == "-"
    )


def test_a_name_with_a_line_break_cannot_ship(model):
    """Build steps read names line by line."""
    (model / "a\nb.bin").write_text("")
    with pytest.raises(SpecError, match="the name has a line break"):
        select_files(model, ["*"], [], "tungsten_model")


def test_names_that_would_take_another_file_away_cannot_ship_and_are_all_named(model):
    """In a layer they are whiteouts."""
    write(model, "data/.wh.weights", ".wh..wh..opq/x", "a.wh.b")
    with pytest.raises(SpecError) as caught:
        selected(model, exclude=[])
    assert [line.partition(":")[0] for line in caught.value.what.splitlines()[1:]] == [
        ".wh..wh..opq/x",
        "data/.wh.weights",
    ]
    assert "exclude_files" in caught.value.hint
    assert "a.wh.b" in paths(model)


def test_what_cannot_ship_may_be_excluded(model):
    os.mkfifo(model / "pipe")
    (model / "link").symlink_to("/etc/passwd")
    assert paths(model, exclude=["pipe", "link"]) == ["tungsten_model.py"]


def test_a_linked_model_folder_is_the_folder(model, tmp_path):
    (tmp_path / "alias").symlink_to(model)
    (model / "data").mkdir()
    (model / "data/a").symlink_to(tmp_path / "alias/tungsten_model.py")
    assert {f.path: f.target for f in selected(tmp_path / "alias")}["data/a"] == "../tungsten_model.py"


def pasted(hint):
    """The lists that a hint says to write, as the arguments of `select_files`."""
    found = re.findall(r"(include|exclude)_files=(\[.*?\])(?= |;|$)", hint)
    return {name: ast.literal_eval(text) for name, text in found}


def environment(model, name="venv"):
    write(
        model, f"{name}/pyvenv.cfg", f"{name}/lib/python3.11/site-packages/torch/a.py", f"{name}/bin/activate"
    )
    (model / name / "bin/python").symlink_to("/usr/bin/python3")


@pytest.mark.parametrize("exclude", [DEFAULT_EXCLUDE_FILES, [], ["notes/"], [".*", "notes/"]])
@pytest.mark.parametrize("name", ["venv", "tools/my env", "#env", "[x]"])
def test_an_environment_is_told_by_its_name_and_the_hint_works_when_pasted(model, exclude, name):
    environment(model, name)
    write(model, "kept.txt", "notes/n.txt", ".env", ".git-credentials", "pkg/__pycache__/x.pyc")
    with pytest.raises(SpecError) as caught:
        selected(model, exclude=exclude)
    assert caught.value.what.splitlines()[1:] == [f"{name}/: a virtual environment"]
    lists = pasted(caught.value.hint)
    shipped = paths(model, **lists)
    assert not [path for path in shipped if path.startswith(f"{name}/")]
    # A list of one's own replaces the default: what the hint writes leaves out at least what the default does.
    assert not [path for path in shipped if path.startswith(".")]
    assert "kept.txt" in shipped
    assert ("notes/n.txt" in shipped) == ("notes/" not in exclude)


def test_the_short_form_of_the_default_means_the_same(model):
    write(
        model,
        "a.py",
        "a.pyc",
        "a.pyo",
        "a.pyd",
        "a.pyx",
        ".env",
        ".b/c",
        "d/.e/f",
        "d/__pycache__/g",
        "__pycache__",
    )
    assert paths(model, **pasted(excluding(DEFAULT_EXCLUDE_FILES, "nothing"))) == paths(model)


def test_what_a_list_matches_already_is_not_added():
    assert excluding(DEFAULT_EXCLUDE_FILES, "/.env") == 'exclude_files=[".*", "__pycache__/", "*.py[cod]"]'
    assert excluding(["!.env"], "/.env").endswith('"!.env", "/.env"]')


@pytest.mark.parametrize(
    "path",
    ["a", "a b", "a/b c ", "!a", "#a", "#d/a", "!d/a", "*", "a?", "[ab]", "d/[ab]", "back\\slash", "ü"],
)
def test_a_pattern_matches_its_file_alone(model, path):
    others = ["b", "sub/a", "ab", "sub/b", "x/d/a"]
    write(model, path, *others)
    assert path not in paths(model, exclude=[pattern_of(path)])
    assert {*others} <= {*paths(model, exclude=[pattern_of(path)])}


def test_what_tools_leave_is_told_by_name(model):
    environment(model, ".venv")
    (model / ".venv/bin/python").unlink()
    snapshot = "model_cache/models--owner--name/snapshots/abc/config.json"
    prepared = "prepared/owner___set/default/0.0.0/0123456789abcdef0123/set-train.arrow"
    write(model, "wandb/run-1/x", "src/mlruns/0/meta.yaml", "notebooks/.ipynb_checkpoints/a.ipynb", snapshot)
    write(model, prepared, "set/cache-0123456789abcdef.arrow", "set/data.arrow", "pkg/__pycache__/a.pyc")
    write(model, "tool/CACHEDIR.TAG", "tool/x/y", "wandb/run-1/wandb/x")
    assert leftovers(model, selected(model, exclude=[]), ["*"]) == [
        Leftover(".venv/", "a virtual environment", ".venv/"),
        Leftover(
            "model_cache/models--owner--name/",
            "a cache of the Hugging Face hub",
            "model_cache/models--owner--name/",
        ),
        Leftover("notebooks/.ipynb_checkpoints/", "what Jupyter has saved", ".ipynb_checkpoints/"),
        Leftover("pkg/__pycache__/", "byte-code", "__pycache__/"),
        Leftover("prepared/owner___set/", "a cache of datasets", "prepared/owner___set/"),
        Leftover("set/cache-0123456789abcdef.arrow", "a cache of datasets", "cache-*.arrow"),
        Leftover("src/mlruns/", "runs of MLflow", "mlruns/"),
        Leftover("tool/", "a cache", "tool/"),
        Leftover("wandb/", "runs of Weights & Biases", "wandb/"),
    ]


def test_a_package_may_be_called_as_a_tool_s_folder_is(model):
    write(model, "wandb/__init__.py", "wandb/run.py", "models--a--b/x", "data/1.0.0/x.arrow")
    assert leftovers(model, selected(model), ["*"]) == []


def test_what_include_files_names_is_wanted(model):
    write(model, "wandb/a", "mlruns/a", ".env", "keys/test.pem", text="-----BEGIN PRIVATE KEY-----")
    files = selected(model, exclude=[])
    for everything in ("*", "/*", "**", "**/*"):
        assert [one.path for one in leftovers(model, files, [everything])] == ["mlruns/", "wandb/"]
        assert [*secrets(model, files, [everything])] == [".env", "keys/test.pem"]
    assert [one.path for one in leftovers(model, files, ["*", "wandb/"])] == ["mlruns/"]
    assert [*secrets(model, files, ["*", "*.pem"])] == [".env"]
    assert [*secrets(model, files, **pasted(including(["*"], "/.env", "/keys/test.pem")))] == []


@pytest.mark.parametrize(
    ("folder", "ships"),
    [
        ("out", True),
        ("deep/er/out", True),
        (RESULTS, False),
        (f"{RESULTS}/x", False),
        (".tungsten/x", False),
        ("..", False),
    ],
)
def test_what_is_put_into_a_model_s_folder_would_ship(model, folder, ships):
    assert would_ship(model / folder) is ships


def secrets_of(model):
    return {*secrets(model, selected(model, exclude=[]), ["*"])}


def test_likely_secrets_are_named(model):
    names = (
        ".env",
        ".env.local",
        "cfg/.netrc",
        "id_rsa",
        ".ssh/id_ed25519",
        "credentials.json",
        ".aws/credentials",
    )
    write(model, *names, ".pypirc", ".git-credentials")
    contents = {
        "key.pem": "-----BEGIN PRIVATE KEY-----",
        "old.key": "-----BEGIN RSA PRIVATE KEY-----",
        "ssh2.pem": "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
        "x.ppk": "PuTTY-User-Key-File-3: ssh-ed25519",
        "service.json": '{"private_key": "x"}',
        "prod.env": "",
        ".npmrc": "//host/:_authToken=x",
        "pip.conf": "index-url = https://user:word@host.example/simple",
        ".docker/config.json": '{"auths": {}}',
        ".cache/huggingface/token": "hf_0123456789abcdef",
    }
    for name, text in contents.items():
        write(model, name, text=text)
    assert secrets_of(model) == {*names, ".pypirc", ".git-credentials", *contents}


def test_other_files_are_no_secrets(model):
    contents = {
        "cert.pem": "-----BEGIN CERTIFICATE-----",
        "config.json": '{"hidden_size": 3}',
        "tokenizer.json": "{}",
        ".npmrc": "save-exact=true",
        ".env.example": "KEY=",
        "example.env": "KEY=",
        "prod.example.env": "KEY=",
        "environment.py": "",
        "readme.txt": "put your PRIVATE KEY elsewhere",
        "special-token.txt": "<unknown-token-of-the-model> <padding-token-of-the-model>",
    }
    for name, text in contents.items():
        write(model, name, text=text)
    assert secrets_of(model) == set()


# Made up here, of the same alphabets and lengths.
DRAWN = "Kd83hQzLw0Pv7RtY2mXc5BnJf9GsAa1UeT4iOq6ZxVbNyHjWkM3lEpCrDuSgFo"
TOKENS = {
    "hf_" + DRAWN[:34]: "a token of Hugging Face in line 2: hf_***",
    "ghp_" + DRAWN[:36]: "a token of GitHub in line 2: ghp_***",
    f"github_pat_{DRAWN[:22]}_{DRAWN[:59]}": "a token of GitHub in line 2: github_pat_***",
    "sk-" + DRAWN[:48]: "a key of an API in line 2: sk-***",
    f"sk-proj-{DRAWN[:30]}_{DRAWN[30:50]}": "a key of an API in line 2: sk-proj-***",
    "AKIA" + "Q2WJ7ZLX4MRN5TGV": "an access key of AWS in line 2: AKIA***",
    f"xoxb-172839405162-{DRAWN[:24]}": "a token of Slack in line 2: xoxb-***",
    f"pypi-AgEI{DRAWN}": "a token of a package index in line 2: pypi-AgEI***",
    f"-----BEGIN PRIVATE KEY-----\n{DRAWN}": "a private key in line 2: -----BEGIN PRIVATE KEY-----***",
    f"-----BEGIN RSA PRIVATE KEY-----\\nProc-Type: 4,ENCRYPTED\\n\\n{DRAWN}": (
        "a private key in line 2: -----BEGIN RSA PRIVATE KEY-----***"
    ),
}


@pytest.mark.parametrize(("token", "what"), TOKENS.items(), ids=range(len(TOKENS)))
@pytest.mark.parametrize("name", ["conf.py", "cfg.txt", "settings.json", "deep/er/README"])
def test_a_token_in_a_text_is_told_with_its_line_and_kept(model, token, what, name):
    write(model, name, text=f'# first\nTOKEN = "{token}"\nREST = 1\n')
    found = secrets(model, selected(model), ["*"])
    assert found == {name: what}
    assert DRAWN[4:20] not in what
    assert secrets(model, selected(model), ["*", f"/{name}"]) == {}


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "x" * 34,
        "hf_" + "abcdefghijklmnopqrstuvwxyz" + "abcdefgh",
        "hf_" + "yourTokenHere" + DRAWN[:21],
        f"hf_{DRAWN[:20]}",
        f"hf_{DRAWN[:40]}",
        f"a_hf_{DRAWN[:34]}",
        "sk-...",
        "sk-" + "0" * 48,
        "task-" + DRAWN[:48],
        "AKIAIOSFODNN7EXAMPLE",
        f"{DRAWN}AKIA" + "Q2WJ7ZLX4MRN5TGV",
        "xoxb-your-token-of-the-workspace-here",
        "ghp_" + "0123456789" * 4,
        'if "-----BEGIN PRIVATE KEY-----" in text:\n    raise ValueError("a private key is no certificate")\n',
        f"-----BEGIN CERTIFICATE-----\n{DRAWN}",
    ],
)
def test_what_only_stands_for_a_token_is_none(model, text):
    write(model, "conf.py", text=f'TOKEN = "{text}"\n')
    assert secrets_of(model) == set()


def test_data_is_not_searched_for_tokens(model):
    """Nor what tools have left."""
    token = f"hf_{DRAWN[:34]}\n"
    write(model, "weights.bin", text=f"\0{token}")
    write(model, "large.txt", text=token + "x" * 1_000_000)
    write(model, "venv/pyvenv.cfg")
    write(model, "venv/doc.txt", text=token)
    assert secrets_of(model) == set()
    write(model, "smaller.txt", text=token + "x" * 900_000)
    assert secrets_of(model) == {"smaller.txt"}


def later():
    """Make the note of what was searched one of long after."""
    (note,) = (cache_folder() / "searched").iterdir()
    os.utime(note, ns=(2**62, 2**62))


def test_a_file_that_held_no_token_is_read_again_only_where_it_was_touched(model, monkeypatch):
    read = []
    monkeypatch.setattr(secrets_module, "_token", lambda data: read.append(data) or None)
    write(model, "a.py", text="a")
    write(model, "b.py", text="b")
    assert (secrets_of(model), sorted(read)) == (set(), [b"", b"a", b"b"])
    read.clear()
    # What was written just before the note may be written again without a trace in its times.
    assert (secrets_of(model), sorted(read)) == (set(), [b"", b"a", b"b"])
    later()
    read.clear()
    assert (secrets_of(model), read) == (set(), [])
    write(model, "b.py", text="c")
    (model / "d.py").write_text("d")
    assert (secrets_of(model), sorted(read)) == (set(), [b"c", b"d"])
    later()
    monkeypatch.setattr(secrets_module, "_TABLE", -1)
    read.clear()
    assert (secrets_of(model), len(read)) == (set(), 4)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"table": 1, "clean": 1}', "\\xff"])
def test_a_damaged_note_of_that_counts_for_nothing(model, text):
    write(model, "conf.py", text=f"hf_{DRAWN[:34]}")
    assert secrets_of(model) == {"conf.py"}
    (note,) = (cache_folder() / "searched").iterdir()
    note.write_text(text)
    later()
    assert secrets_of(model) == {"conf.py"}


def test_no_secrets_in_what_does_not_ship(model):
    write(model, ".env")
    assert secrets(model, selected(model), ["*"]) == {}
