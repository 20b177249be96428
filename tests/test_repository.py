"""Rules about the repository as a whole: what it must not name, who may import whom, documents that agree."""

import ast
import functools
import inspect
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import generate
from tests.machine import need
from tungstenkit.audit.asked import check_lock
from tungstenkit.cli.main import command_line
from tungstenkit.data import FACTS, NIX, OWN_WHEELS
from tungstenkit.fetch.machine_mirrors import apt_bases
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.platforms import ARCHITECTURES
from tungstenkit.project.template import TEMPLATES, templates
from tungstenkit.sdk.define import define_model
from tungstenkit.spec.document import ModelSpec
from tungstenkit.spec.read import read_spec

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# From the command line down: a folder may import those that stand after it, never one before it.
FOLDERS = [
    "cli",
    "models",
    "prove",
    "project",
    "trial",
    "doctor",
    "run",
    "seal",
    "bill",
    "nix_build",
    "export",
    "audit",
    "resolve",
    "fetch",
    "registry",
    "lock",
    "debian",
    "spec",
    "",  # the ground: the files that are in none
    "sdk",
]


def committed():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.upstream
def test_no_registrys_host_is_named(upstream):
    """Hosts come from the machine: these are the ones that its own clients use."""
    urls = [upstream.pypi, upstream.npm or "", *apt_bases()]
    urls += [file.url for file in upstream.project_files("six")]
    hosts = {host for url in urls if (host := urlsplit(url).hostname)} - {"localhost", "127.0.0.1"}
    assert hosts
    pattern = re.compile("|".join(re.escape(host) for host in sorted(hosts)).encode())
    named = [path for path in committed() if pattern.search(path.read_bytes())]
    assert named == []


@functools.cache
def nodes(text):
    """All of a module's syntax tree: many rules look at each module."""
    return tuple(ast.walk(ast.parse(text)))


@functools.cache
def modules():
    """Ours, by their names; templates are models, which nothing imports."""
    found = {}
    for path in sorted((ROOT / "tungstenkit").rglob("*.py")):
        if TEMPLATES in path.parents:
            continue
        name = ".".join(path.relative_to(ROOT / "tungstenkit").with_suffix("").parts)
        if not name.endswith("__init__"):
            found[name] = path
    return found


def imported(path):
    """Names of our modules that a module imports when it runs; what is imported for types alone does not count."""
    typing_only = {
        inner
        for node in nodes(path.read_text())
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes(path.read_text()):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_clock_is_read_where_the_mirrors_are_found():
    """What passes with time is judged by that moment: tests say which day it is. `big_files` dates files.

    The programs of builds read none.
    """
    programs = [(path.name, path) for path in (ROOT / "nix" / "tools").rglob("*.py")]
    reads = re.compile(r"\b(now|today|utcnow)\(|\btime(_ns)?\(\)|\b(gm|local)time\(|strftime")
    assert [name for name, path in [*modules().items(), *programs] if reads.search(path.read_text())] == [
        "fetch.big_files",
        "fetch.machine_mirrors",
    ]


def folder_of(name):
    return name.rpartition(".")[0]


@functools.cache
def ours(name):
    """Modules of ours that one imports."""
    found = {module.removeprefix("tungstenkit.") for module in imported(modules()[name])}
    return found & modules().keys() - {name}


def test_every_folder_has_its_place():
    assert {folder_of(name) for name in modules()} == set(FOLDERS)


@pytest.mark.parametrize("name", [name for name in modules() if name != "__main__"])
def test_a_module_imports_nothing_of_a_higher_folder(name):
    rank = FOLDERS.index(folder_of(name))
    assert [other for other in ours(name) if FOLDERS.index(folder_of(other)) < rank] == []


def test_no_modules_import_one_another_in_a_circle():
    list(TopologicalSorter({name: ours(name) for name in modules()}).static_order())


FACES = {"models": "Python programs"}
"""Folders whose `__init__.py` has names for others, as `tungstenkit` itself has those of the SDK; for whom."""


@pytest.mark.parametrize("folder", [name for name in FOLDERS if name and name not in FACES])
def test_a_folder_is_described_and_exports_nothing_of_its_own(folder):
    (only,) = ast.parse((ROOT / "tungstenkit" / folder / "__init__.py").read_text()).body
    assert isinstance(only, ast.Expr)
    assert ast.get_docstring(ast.Module([only], []))


# What words and shows what was made is the command line; all else is given an observer (`watch.Watch`), or returns a
# value.
COMMAND_LINE = {"cli", "__main__"}
PROGRAMS_OBSERVER = ROOT / "tungstenkit" / "models" / "observer.py"
"""What a program that uses us is told by."""


def shown(path):
    """How a module shows something to a person, each with its line."""
    for node in nodes(path.read_text()):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "input", "breakpoint"):
            yield f"{node.lineno}: {ast.unparse(node.func)}"
        if isinstance(node, ast.Attribute) and re.fullmatch(
            r"sys\.(__)?std(out|err)(__)?", ast.unparse(node)
        ):
            yield f"{node.lineno}: {ast.unparse(node)}"
    consoles = re.compile(r"(rich|typer|click|tungstenkit\.cli)(\.|$)|(warnings|logging)$")
    told = {"logging"} if path == PROGRAMS_OBSERVER else set()
    yield from (name for name in imported(path) if consoles.match(name) and name not in told)


@pytest.mark.parametrize("name", [name for name in modules() if name.split(".")[0] not in COMMAND_LINE])
def test_nothing_below_the_command_line_prints(name):
    assert list(shown(modules()[name])) == []


def changed_exceptions(text):
    """The lines where a module writes to a problem: of an exception that it has caught, or by an error's fields."""
    caught = {
        (node.name, one)
        for node in nodes(text)
        if isinstance(node, ast.ExceptHandler) and node.name
        for one in ast.walk(node)
    }
    for node in nodes(text):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                owner = target.value.id
                if (owner, target) in caught or (target.attr in ("what", "hint") and owner != "self"):
                    yield node.lineno


def test_a_write_to_an_exception_is_noticed():
    text = "try:\n  f()\nexcept E as e:\n  e.code = 1\n  raise\nfirst.hint += ''\nself.what = 1\n"
    assert list(changed_exceptions(text)) == [6, 4]


@pytest.mark.parametrize("folder", ["tungstenkit", "server/tungsten_server", "nix/tools"])
def test_no_exception_is_changed_after_it_was_raised(folder):
    """Whoever has caught it may still hold it: `reworded` and its like make another."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in changed_exceptions(path.read_text())
    ]
    assert found == []


def too_big(text, *, many_parameters=False):
    """What of a module nobody reads in one go: "" for the file, and functions by name."""
    if text.count("\n") > 500:
        yield ""
    for node in nodes(text):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [one for one in every if one.arg not in ("self", "cls")]
            # Where many parameters may be, so may what is said of each.
            first = node.body[bool(ast.get_docstring(node)) :][:1] if many_parameters else [node]
            lines = node.end_lineno - first[0].lineno + 1 if first else 0
            if lines > 60 or (len(own) > 6 and not many_parameters):
                yield node.name


def test_what_is_too_big_is_noticed():
    long = "def long():\n" + "    pass\n" * 60
    assert list(too_big(long)) == ["long"]
    assert list(too_big(long.replace("    pass\n", "", 1))) == []
    many = "class C:\n    async def many(self, a, /, b, c, *rest, d, e, f, g): ...\n"
    assert list(too_big(many)) == ["many"]
    assert list(too_big(many, many_parameters=True)) == list(too_big(many.replace(", g", ""))) == []
    told = many.replace(" ...", '\n        """Say.' + "\n" * 70 + '        """\n        return 1')
    assert list(too_big(told, many_parameters=True)) == []
    assert list(too_big(told.replace("return 1", "pass\n        " * 61), many_parameters=True)) == ["many"]
    assert list(too_big("\n" * 501)) == [""]
    assert list(too_big("\n" * 500)) == []


def test_files_functions_and_lists_of_parameters_are_short():
    """But for the parameters of commands and of the SDK: a person may leave out most of those."""
    found = {
        f"{path.relative_to(ROOT)} {name}".rstrip()
        for folder in ("tungstenkit", "server/tungsten_server", "nix/tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in too_big(path.read_text(), many_parameters=path.parent.name in ("cli", "sdk"))
    }
    assert found == set()


@pytest.mark.parametrize("name", [name for name in modules() if folder_of(name) == "sdk"])
def test_the_sdk_needs_pydantic_and_pillow_alone(name):
    roots = {module.split(".")[0] for module in imported(modules()[name])}
    assert roots - set(sys.stdlib_module_names) <= {
        "pydantic",
        "pydantic_core",
        "PIL",
        "tungstenkit",
        "__future__",
    }


def test_the_sdks_wheel_is_described_as_the_project_is():
    own = OWN_WHEELS["sdk"]
    assert (own["name"], own["version"]) == (PYPROJECT["project"]["name"], PYPROJECT["project"]["version"])
    declared = {Requirement(text).name: Requirement(text) for text in PYPROJECT["project"]["dependencies"]}
    assert all(declared[Requirement(text).name] == Requirement(text) for text in own["requires"])


def test_our_own_image_is_locked_and_has_what_the_project_needs():
    spec = read_spec(ROOT / "builder")
    assert sorted(spec.python_packages) == sorted(PYPROJECT["project"]["dependencies"])
    lock = read_lock(ROOT / "builder" / LOCK_NAME)
    check_lock(lock, spec, ROOT / "builder" / LOCK_NAME)
    assert set(lock.platforms) == set(ARCHITECTURES)


def test_the_servers_wheel_is_described_as_its_project_is():
    server = tomllib.loads((ROOT / "server" / "pyproject.toml").read_text())["project"]
    own = OWN_WHEELS["server"]
    assert (own["name"], own["version"], own["requires-python"]) == (
        server["name"],
        server["version"],
        server["requires-python"],
    )
    assert sorted(own["requires"]) == sorted(server["dependencies"])
    # `--local` runs it beside the command line.
    assert set(own["requires"]) <= set(PYPROJECT["project"]["dependencies"])


def test_known_versions_are_locked_by_hash_and_named_without_a_host():
    """What `make setup` installs: all that pyproject.toml asks for, as it asks for it, and nothing by an address."""
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|@|^\s*-(?!-hash)|localhost", text, re.MULTILINE)
    entries = re.findall(r"^(?=\w)(.+?) \\\n((?:    --hash=.+\n)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\w", text, re.MULTILINE))
    assert all(re.fullmatch(r"(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", hashes) for _, hashes in entries)
    locked = [Requirement(line) for line, _ in entries]
    asked = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"]]
    asked += [text for group in PYPROJECT["dependency-groups"].values() for text in group]
    for wanted in map(Requirement, asked):
        pins = [one for one in locked if canonicalize_name(one.name) == canonicalize_name(wanted.name)]
        assert pins, f"{wanted}: run `make upgrade`"
        for (pin,) in (one.specifier for one in pins):
            assert pin.operator == "=="
            assert wanted.specifier.contains(pin.version, prereleases=True), f"{wanted}: run `make upgrade`"


def test_the_readmes_example_is_a_model(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "tungsten_model.py").write_text(example)
    spec = read_spec(tmp_path)
    assert spec.class_name == "Blur"
    assert spec.input_schema["required"] == ["image"]


def test_the_readme_names_every_command_and_no_other():
    text = (ROOT / "README.md").read_text()
    app = command_line()
    commands = {one.name for one in (*app.registered_commands, *app.registered_groups)}
    rows = "".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE))
    assert set(re.findall(r"`tungsten ([a-z-]+)", rows)) == commands


@pytest.mark.parametrize(("document", "end"), [("README.md", "\n"), ("docs/guide.md", "\n\n")])
def test_every_template_is_named(document, end):
    told = (ROOT / document).read_text().partition("`tungsten init")[2].partition(end)[0]
    assert [name for name in templates() if not re.search(rf"\b{name}\b", told)] == []


def test_the_guide_names_every_argument_of_define_model():
    text = (ROOT / "docs" / "guide.md").read_text()
    signature = inspect.signature(define_model)
    arguments = {name for name, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {name for name in arguments if f"`{name}`" in text} == arguments


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"),
        *("docs/guide.md", "docs/first-session.md", "docs/nixpkgs.md", "docs/security.md"),
    ],
)
def test_links_between_documents_lead_somewhere(document):
    path = ROOT / document
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text())
    files = [target.split("#")[0] for target in targets if not target.startswith("https://")]
    missing = [name for name in files if not (path.parent / name).exists()]
    assert missing == []


def test_the_story_tells_of_files_and_folders_that_are_there():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`([\w./-]+\.(?:py|nix|sh))`", text)
    rooms = [ROOT, ROOT / "tungstenkit", SERVER, NIX]
    assert [name for name in named if not any((room / name).is_file() for room in rooms)] == []
    rows = set(re.findall(r"^\| `([\w/]+)/` \|", text, re.MULTILINE))
    folders = {
        path.parent.relative_to(NIX).as_posix() for path in NIX.rglob("*") if path.suffix in {".nix", ".py"}
    }
    assert rows == {*FOLDERS, *SERVER_FOLDERS, *folders} - {"", "."}


def test_the_documents_keys_are_told_of():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    keys = [field.alias or name for name, field in ModelSpec.model_fields.items()]
    rows = "".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE))
    assert [key for key in keys if f"`{key}`" not in rows] == []


def test_what_make_leaves_out_is_there():
    """pytest says nothing of a file that it should ignore and that has moved: it would be run after all."""
    need("make")
    command = ["make", "--dry-run", "-C", ROOT, "check-server", "check-rest", "test-images"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    left_out = set(re.findall(r"--ignore=(\S+)", said))
    assert left_out
    assert [name for name in left_out if not (ROOT / name).exists()] == []


def test_what_contributing_names_is_there():
    """Its files by their paths, its tests by their names, its targets of make."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    blocks = re.findall("```console\n(.*?)```", text, re.DOTALL)
    quoted = re.findall("`([^`]+)`", re.sub("```.*?```", "", text, flags=re.DOTALL))
    words = [word for one in quoted for word in one.split() if "<" not in word]
    paths = [word for word in words if "/" in word and not word.startswith((".venv", "-"))]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    names = [word for word in words if re.fullmatch(r"test_\w+", word)]
    assert names
    assert [name for name in names if f"def {name}(" not in tests] == []
    asked = set(re.findall(r"\bmake ([a-z-]+)", "\n".join([*quoted, *blocks])))
    assert asked > {"check", "test"}
    assert asked <= targets


def test_every_example_has_a_lock():
    assert {example.name for example in generate.LOCKED_EXAMPLES} == {"blur", "caption", "detection", "iris"}


def test_sdk_and_server_name_files_by_the_same_rule():
    folders = ("tungstenkit/sdk", "server/tungsten_server/words")
    texts = {(ROOT / path / "suffixes.py").read_text() for path in folders}
    assert len(texts) == 1


SERVER = ROOT / "server" / "tungsten_server"

# Which folders of the server a folder may import, beside itself; "" stands for the files that are in none.
SERVER_FOLDERS = {
    "words": {"worker"},
    "worker": set(),
    "checks": {"words", "worker"},
    "model": {"words", "worker"},
    "queue": {"words", "checks", "model", "worker"},
    "page": {"words", "checks"},
    "http": {"words", "checks", "queue", "page", "worker"},
    "": {"words", "checks", "model", "queue", "http", "worker"},
}


@functools.cache
def server_files():
    """The server's files by their names within the package: `queue.driver`."""
    paths = sorted(SERVER.rglob("*.py"))
    return {".".join(path.relative_to(SERVER).with_suffix("").parts): path for path in paths}


def server_imports(name):
    """Files of the server that one of them imports, for types alone too."""
    files = server_files()
    package = ["tungsten_server", *name.split(".")[:-1]]
    for node in nodes(files[name].read_text()):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            found = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from {one.removeprefix("tungsten_server.") for one in found} & set(files)


def test_every_folder_of_the_server_has_its_place():
    assert {name.rpartition(".")[0] for name in server_files()} == set(SERVER_FOLDERS)


@pytest.mark.parametrize("name", server_files())
def test_the_server_s_files_import_what_their_folder_may(name):
    folder = name.rpartition(".")[0]
    wrong = [
        other
        for other in server_imports(name)
        if (there := other.rpartition(".")[0]) not in {folder, *SERVER_FOLDERS[folder]}
        or (there == "worker" != folder and other not in ("worker.frames", "worker.events", "worker.fold"))
    ]
    assert wrong == []


def test_no_files_of_the_server_import_one_another_in_a_circle():
    imports = {name: set(server_imports(name)) for name in server_files()}
    assert len(list(TopologicalSorter(imports).static_order())) == len(imports)


@pytest.mark.parametrize("name", [name for name in server_files() if name.startswith("worker.")])
def test_what_runs_under_the_models_interpreter_needs_the_standard_library_and_the_sdk_alone(name):
    every = nodes(server_files()[name].read_text())
    roots = {
        alias.name.split(".")[0] for node in every if isinstance(node, ast.Import) for alias in node.names
    }
    roots |= {
        node.module.split(".")[0] for node in every if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert roots - set(sys.stdlib_module_names) <= (
        {"tungstenkit", "PIL"}
        if name == "worker.model"
        else {"tungstenkit"}
        if name == "worker.outputs"
        else set()
    )


@pytest.mark.parametrize("folder", [name for name in SERVER_FOLDERS if name])
def test_a_folder_of_the_server_is_described_and_exports_nothing_of_its_own(folder):
    (only,) = ast.parse((SERVER / folder / "__init__.py").read_text()).body
    assert isinstance(only, ast.Expr)
    assert ast.get_docstring(ast.Module([only], []))


@pytest.mark.parametrize("folder", FACES)
def test_a_face_is_light_and_has_what_it_says(folder):
    program = (
        f"import sys, tungstenkit.{folder} as face;"
        "print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names));"
        "[getattr(face, name) for name in face.__all__]"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(run.stdout.split()) <= {"tungstenkit", "__main__"}


# The SDK is in images, which have no facts.json. git gets its own variable beside others of ours.
ELSEWHERE = {
    "whiteout": {"tungstenkit/sdk/downloads.py"},
    "certificate-variables": {"tungstenkit/certificates.py"},
}


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_is_written_once(name):
    """Other places read `nix/tools/lib/facts.json`. A fact is known by a text that stands for nothing else."""
    marks = {
        "certificate-variables": "GIT_SSL_CAINFO",
        "driver-libraries": "GLESv1_CM",
        "export-label": "io.tungstenkit",
        "exported": ' "flake.lock",\n',
        "platforms": "aarch64-linux-gnu",
        "proxy-variables": "ftp_proxy",
        "whiteout": f'"{FACTS["whiteout"]}"',
    }
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("nix", "tungstenkit")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".nix", ".py", ".sh", ".json"} and marks[name] in path.read_text()
    }
    assert found == {"nix/tools/lib/facts.json"} | ELSEWHERE.get(name, set())
