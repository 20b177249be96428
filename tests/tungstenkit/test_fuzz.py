"""Documents that anybody may have written: read, or refused in our one shape, and never anything else.

Made from their published schemas, and from real ones in which something is another: Hypothesis looks for what we did
not think of. What holds of every document that is read is said once, in `is_harmless`.
"""

import copy
import json
import re
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import generate
from tests.machine import needs
from tungstenkit import nix_program, store
from tungstenkit.audit.asked import check_lock, unasked
from tungstenkit.fetch.bring import store_paths
from tungstenkit.fetch.locate import locate
from tungstenkit.fetch.needs import needed_files
from tungstenkit.lock.document import LOCK_NAME, LOCK_VERSIONS, Lock, packages, parse_lock
from tungstenkit.outside import GIT, url_problem
from tungstenkit.sdk.errors import LockError, SpecError, TungstenError
from tungstenkit.spec.document import ModelSpec

EXAMPLE = generate.ROOT / "examples" / "caption"
DOCS = generate.ROOT / "docs"
SCHEMAS = {name: json.loads((DOCS / f"{name}.schema.json").read_text()) for name in ("spec", LOCK_NAME)}
REAL = {
    name: json.loads((EXAMPLE / file).read_text()) for name, file in (("spec", "spec.json"), (LOCK_NAME,) * 2)
}

HOSTILE = [
    "--upload-pack=touch /tmp/x",
    "git+file:///x@--upload-pack=id",
    "ext::sh -c id",
    "file:///etc/passwd",
    "../../../../etc/passwd",
    "/etc/passwd",
    "~root",
    "${HOME}",
    "$(id)",
    "a\nb",
    "\x1b[2J",
    "\u202e",
    "\x00",
    "'; id; '",
    '"; id; "',
    "''${x}''",
    "@release@",
    "",
    ".",
    "..",
    "-",
    "x" * 5000,
    "https://me:secret@h.example/x",
    "ssh://-oProxyCommand=id/x",
    "docker://x",
]
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -1, 2**63, 1e308, 0])
    | st.text(max_size=20)
    | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

pytestmark = pytest.mark.timeless("documents are judged without a clock")
QUICK = settings(max_examples=30)


def of(schema, name):
    """What a schema allows, and now and then what it does not. name: of the document."""
    if "$ref" in schema:
        return part_of(name, schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return st.one_of([of(one, name) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "object" if "properties" in schema:
            wanted = {key: of(one, name) for key, one in schema["properties"].items()}
            required = set(schema.get("required", ()))
            optional = {key: one for key, one in wanted.items() if key not in required}
            return st.fixed_dictionaries({key: wanted[key] for key in required}, optional=optional)
        case "object":
            more = schema.get("additionalProperties")
            keys = st.text(max_size=5) | st.sampled_from(["x86_64-linux", "bookworm", "debian", *HOSTILE[:5]])
            return st.dictionaries(keys, of(more, name) if isinstance(more, dict) else ANY, max_size=2)
        case "array":
            return st.lists(of(schema.get("items", {}), name), max_size=2)
        case "string":
            known = (
                st.from_regex(re.compile(schema["pattern"])) if "pattern" in schema else st.text(max_size=8)
            )
            return known | st.sampled_from(HOSTILE)
        case "integer":
            return st.integers(min_value=schema.get("minimum"), max_value=schema.get("maximum"))
        case "number":
            return st.floats(allow_nan=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return ANY


@cache
def part_of(name, part):
    """What the schema of a part allows, which may be a part of itself."""
    return st.deferred(lambda: of(SCHEMAS[name]["$defs"][part], name))


def places(value, here=()):
    """The way to each value in a document."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*here, key))


PLACES = {name: [place for place in places(document) if place] for name, document in REAL.items()}


@st.composite
def changed(draw, name):
    """A real document in which something is another, is not there, or is there twice."""
    document = copy.deepcopy(REAL[name])
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(PLACES[name]))
        with suppress(LookupError, TypeError):  # it is gone already
            inner = document
            for key in way:
                inner = inner[key]
            match draw(st.sampled_from(["other", "hostile", "gone", "twice", "more"])):
                case "other":
                    inner[last] = draw(ANY)
                case "hostile":
                    inner[last] = draw(st.sampled_from(HOSTILE))
                case "gone":
                    del inner[last]
                case "twice" if isinstance(inner, list):
                    inner.append(inner[last])
                case _ if isinstance(inner, dict):
                    inner[draw(st.sampled_from(HOSTILE) | st.text(max_size=8))] = inner[last]
    return document


def text_of(document):
    return json.dumps(document).encode()


class Listing:
    """Mirrors that have everything."""

    def urls(self, uri, timestamps):
        return [uri.replace("mirror://", "https://mirror.example/")]

    def wheel_urls(self, project, files, sha256):
        return {file: f"https://index.example/{project}/{file}" for file in files}


def is_harmless(lock):
    """What holds of every lock that is read, whoever wrote it."""
    assert Lock.parse(lock.to_json(), where="", error=LockError, hint="") == lock
    wanted = needed_files(lock)
    for entry, urls in zip(
        wanted, (locate([one], lock, Listing())[one.sha256] for one in wanted), strict=True
    ):
        assert re.fullmatch(
            rf"{re.escape(store.place())}/[0-9a-z]{{32}}-[A-Za-z0-9+_-][A-Za-z0-9+._-]*", entry.path
        )
        assert all(url_problem(url) is None for url in urls)
        assert entry.git is None or url_problem(entry.git.url, GIT) is None
        assert entry.local is None or not entry.local.startswith(("/", "~"))
        assert 0 <= entry.size <= 1 << 40
    if lock.sealed and lock.package_set == "debian":
        assert all(path.startswith(f"{store.place()}/") for path in store_paths(lock))
    for place, _ in lock.files.in_model():
        assert not place.startswith("/")
        assert ".." not in place.split("/")
    for located in packages(lock):
        assert not re.search(r"[\x00-\x1f\x7f]", located.name + located.package.version)


def names(lock):
    return {(one.system, one.place, one.kind, one.name) for one in packages(lock)}


@QUICK
@given(of(SCHEMAS[LOCK_NAME], LOCK_NAME).map(text_of))
def test_a_lock_of_its_schema(text):
    with suppress(LockError):
        is_harmless(parse_lock(text, LOCK_NAME))


@settings(max_examples=150)
@given(changed(LOCK_NAME).map(text_of))
def test_a_real_lock_in_which_something_is_another(text):
    spec = ModelSpec.from_json((EXAMPLE / "spec.json").read_text())
    with suppress(LockError):
        lock = parse_lock(text, LOCK_NAME)
        is_harmless(lock)
        check_lock(lock, spec, EXAMPLE / LOCK_NAME)
        # What is taken for the model's has nothing but what the real one may have, whatever its hashes.
        assert not list(unasked(lock, spec))
        assert lock.files.downloads == ()
        real = {
            (one.system, one.place, one.kind, one.name)
            for one in packages(parse_lock(text_of(REAL[LOCK_NAME]), ""))
        }
        assert {(one.system, one.place, one.kind, one.name) for one in packages(lock)} <= real


@QUICK
@given(of(SCHEMAS["spec"], "spec").map(text_of) | changed("spec").map(text_of))
def test_a_spec(text):
    with suppress(SpecError):
        spec = ModelSpec.from_json(text.decode())
        assert ModelSpec.from_json(spec.to_json()) == spec


@QUICK
@given(st.binary(max_size=50) | st.text(max_size=50).map(str.encode) | ANY.map(text_of))
def test_what_is_no_document_at_all(data):
    with pytest.raises(LockError):
        parse_lock(data, LOCK_NAME)
    with pytest.raises(SpecError):
        ModelSpec.from_json(data.decode(errors="replace"))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"lock-version": 1' + "0" * 5000 + "}", "NaN"]
)
def test_what_no_reader_gets_to_the_end_of(text):
    with pytest.raises(LockError):
        parse_lock(text.encode(), LOCK_NAME)
    with pytest.raises(SpecError):
        ModelSpec.from_json(text)


@needs("nix")
def test_an_exports_documents_name_nothing_but_the_web_to_nix(tmp_path):
    """Nix reads an export with nothing of ours around it: one evaluation of many documents."""
    found = []

    @settings(max_examples=50, database=None)
    @given(st.lists(ANY | st.sampled_from(HOSTILE), max_size=2), changed("spec"), changed(LOCK_NAME))
    def collect(urls, spec, lock):
        # Without what only stands for the bytes of other kinds: Nix's strings have no NUL.
        found.append(
            json.loads(
                json.dumps({"urls": urls, "spec": spec, "lock": lock}).replace("\\u0000", ""),
                # Nor are numbers of theirs longer than 64 bits: a newer Nix ends where it reads one.
                parse_int=lambda text: max(-(2**63), min(int(text), 2**63 - 1)),
            )
        )

    collect()
    for number, one in enumerate(found):
        for name in ("spec", "lock"):
            (tmp_path / f"{number}.{name}").write_text(json.dumps(one[name]))
    (tmp_path / "urls.json").write_text(json.dumps([one["urls"] for one in found]))
    expression = f"""
      let
        nix = import {generate.ROOT}/nix;
        inherit (nix) documents;
        tried = value: let t = builtins.tryEval value; in if t.success then t.value else null;
        sha256 = "{"0" * 64}";
        fetch = urls: nix.scope.bind {{
          sources = {{ ${{sha256}} = urls; }};
        }} nix.fetch {{ file = "x"; inherit sha256; }};
        lists = builtins.fromJSON (builtins.readFile {tmp_path}/urls.json);
        urls = builtins.filter (builtins.all builtins.isString) lists;
        versions = number: {{
          spec = tried ((documents.spec ({tmp_path} + "/${{toString number}}.spec")).spec-version);
          lock = tried ((documents.lock ({tmp_path} + "/${{toString number}}.lock")).lock-version);
        }};
      in {{
        urls = map (all: tried (fetch all).url) urls;
        versions = builtins.genList versions {len(found)};
      }}
    """
    run = nix_program.run(["nix-instantiate", "--eval", "--strict", "--json", "-E", expression])
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    for url in answer["urls"]:
        assert url is None or re.match(r"(?i)https?://|run-tungsten-fetch:", url)
    assert {one["spec"] for one in answer["versions"]} <= {1, None}
    assert {one["lock"] for one in answer["versions"]} <= {*LOCK_VERSIONS, None}


def test_the_real_documents_are_read():
    is_harmless(parse_lock(text_of(REAL[LOCK_NAME]), LOCK_NAME))
    ModelSpec.from_json(text_of(REAL["spec"]).decode())
    with pytest.raises(TungstenError):
        parse_lock(text_of(REAL["spec"]), LOCK_NAME)
