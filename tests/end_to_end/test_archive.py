"""A registry keeps what builds an image: a push sends it once, and who has nothing else builds the same of it."""

import json
import re
import shutil
import subprocess
import urllib.request

import pytest

from tests.end_to_end import bases
from tests.end_to_end.harness import ENGINE, SYSTEM, succeed, tungsten
from tests.end_to_end.test_kept import FOREIGN
from tests.machine import need
from tests.registry import digest_of, registry
from tungstenkit.fetch.kept import export_of, inputs_of, unpack_export
from tungstenkit.fetch.needs import result_files
from tungstenkit.lock.document import read_lock
from tungstenkit.registry.artifact import EXPORT, INDEX, INPUTS, MANIFEST, TITLE, manifests_of
from tungstenkit.registry.place import place

SMALL = 50_000
"""Bytes of a push of an edited line, with what it keeps to build it and all that is said of it."""
LIST = 20_000
"""Bytes of the manifest of its inputs, which another repository takes once."""
SAID = ("application/spdx+json", "application/vnd.cyclonedx+json", "application/vnd.in-toto+json")
"""What is said of an image, by its kinds."""


@pytest.fixture(autouse=True)
def _programs():
    need("skopeo")


def manifest_at(host, name, reference="latest"):
    """A manifest as a registry gives it."""
    request = urllib.request.Request(
        f"http://{host}/v2/{name}/manifests/{reference}", headers={"Accept": f"{MANIFEST}, {INDEX}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


def test_all_kinds_of_inputs_come_from_a_registry_and_no_recorded_step_is_run_again(
    everything, empty_store, tmp_path
):
    """A base image's layers, steps' results, a built wheel, weights, a big file: nobody else has any of them by now.

    In an empty store, without a network; as a mirror, and of a year before, in `test_relock.py`.
    """
    need("docker-registry", "curl")
    folder, expected = everything.image.directory, everything.image.digest
    with bases.registry(tmp_path) as host:
        reference = f"{host}/team/everything:1"
        done = tungsten("push", reference, folder, "--with-inputs", "--skopeo-arg=--dest-tls-verify=false")
        assert (done.returncode, done.stdout) == (0, f"{reference}@{expected}\n"), done.stderr
        (inputs,) = inputs_of(expected, [place(reference)])
        assert " is proved: " in succeed("verify", reference)
    lock = read_lock(folder / "tungsten.lock")
    (built,) = (source.wheel for source in lock.platforms[SYSTEM].sources)
    made = {file.name for file in result_files(lock)}
    layers = {
        f"layer-{one.digest.removeprefix('sha256:')}" for one in lock.platforms[SYSTEM].base_image.layers
    }
    declared = {"w.onnx", "model.safetensors", "config.json"}
    names = {layer.annotations[TITLE] for layer in inputs.layers}
    assert len(made) == 2
    assert {built, *made, *layers, *declared, "big.bin"} < names
    there = shutil.copytree(folder, tmp_path / "there", ignore=shutil.ignore_patterns(".tungsten"))
    alone, environment = bases.alone(tmp_path, host, empty_store)
    environment |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / "cache")}
    succeed("fetch", there, "--from", reference, before=alone, env=environment)
    again = tungsten("build", there, "--no-load", "--json", before=alone, env=environment)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["digest"] == expected
    assert "running" not in again.stderr


@pytest.fixture(params=["referrers", "docker-registry"])
def place_to_push(request, tmp_path):
    """Registries of both kinds: their host and port."""
    if request.param == "docker-registry":
        need("docker-registry")
        with bases.registry(tmp_path) as host:
            yield host
    else:
        with registry() as found:
            yield found.host


@pytest.fixture
def push(copy_of):
    """Pushes a model that keeps what builds it."""

    def push(reference, folder, *options):
        line = ["push", reference, folder, "--skopeo-arg=--dest-tls-verify=false", *options]
        return tungsten(*line)

    return push


def test_what_is_kept_changes_nothing_of_the_image(place_to_push, push, blur, tmp_path):
    """skopeo copies the image and podman takes it, by the digest that it has here; what is kept is whole."""
    host = place_to_push
    done = push(f"{host}/blur", blur.directory, "--with-inputs")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{host}/blur@{blur.digest}\n"
    assert "keeping what builds it in " in done.stderr
    assert digest_of(manifest_at(host, "blur")) == blur.digest
    where = place(f"{host}/blur")
    (inputs,) = inputs_of(blur.digest, [where])
    (export,) = export_of(blur.digest, [where])
    names = [layer.annotations[TITLE] for layer in inputs.layers]
    assert any(name.startswith("libc6_") for name in names)
    assert any(name.startswith("pillow-") for name in names)
    assert "busybox" in names
    assert [layer.digest for layer in inputs.layers] == sorted(layer.digest for layer in inputs.layers)
    unpack_export(export, tmp_path / "export")
    exported = {
        path.relative_to(tmp_path / "export").as_posix(): path.read_bytes()
        for path in (tmp_path / "export").rglob("*")
        if path.is_file()
    }
    built = blur.directory / ".tungsten" / "export"
    assert exported == {
        path.relative_to(built).as_posix(): path.read_bytes()
        for path in built.rglob("*")
        if path.is_file() and path.name != "sources.json"
    }
    with registry() as other:
        copy = ["skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"]
        copy += ["--dest-tls-verify=false", f"docker://{host}/blur", f"docker://{other.host}/copied"]
        subprocess.run(copy, check=True)
        assert digest_of(manifest_at(other.host, "copied")) == blur.digest


def test_podman_takes_an_image_with_what_is_kept_of_it(place_to_push, push, blur):
    need(*ENGINE)
    name = f"{place_to_push}/blur"
    assert push(name, blur.directory, "--with-inputs").returncode == 0
    try:
        pull = ["podman", "pull", "--quiet", "--tls-verify=false", f"{name}@{blur.digest}"]
        subprocess.run(pull, check=True, capture_output=True)
        inspect = ["podman", "image", "inspect", "--format", "{{.Digest}}", f"{name}@{blur.digest}"]
        found = subprocess.run(inspect, check=True, capture_output=True, text=True)
        assert found.stdout.strip() == blur.digest
    finally:
        subprocess.run(["podman", "rmi", "--force", f"{name}@{blur.digest}"], capture_output=True)


@pytest.mark.parametrize("has_referrers", [True, False])
def test_what_the_registry_has_is_not_sent_again(copy_of, push, has_referrers):
    """A second model with the same packages sends its own; an edited line hardly anything."""
    first, second = copy_of("blur"), copy_of("blur")
    source = second / "tungsten_model.py"
    source.write_text(source.read_text() + "# another model\n")
    with registry(has_referrers=has_referrers) as found:
        assert push(f"{found.host}/team/first", first, "--with-inputs").returncode == 0
        whole = found.received
        done = push(f"{found.host}/team/second", second, "--with-inputs")
        assert done.returncode == 0, done.stderr
        other = found.received - whole
        assert re.search(
            r"not there yet: 1 file, \d+ kB; in another repository of it: \d+ files", done.stderr
        )
        source.write_text(source.read_text() + "# an edited line\n")
        again = push(f"{found.host}/team/second", second, "--with-inputs")
        edit = found.received - whole - other
        assert re.search(r"not there yet: 1 file, \d+ kB\n", again.stderr)
        kinds = {
            one.artifact_type
            for one in place(f"{found.host}/team/second").referrers(again.stdout.strip().rpartition("@")[2])
        }
    assert kinds == {INPUTS, EXPORT, *SAID}
    assert edit < SMALL, again.stderr
    assert other < SMALL + LIST < whole


def test_a_registry_that_refuses_artifacts_has_the_image_all_the_same(push, blur):
    with registry(accepts_artifacts=False) as found:
        done = push(f"{found.host}/blur", blur.directory, "--with-inputs")
        assert done.returncode == 1
        assert done.stdout == f"{found.host}/blur@{blur.digest}\n"
        assert (
            "error: the image is pushed, but what builds it is not kept: this registry takes no"
            in done.stderr
        )
        assert "--inputs-to REF" in done.stderr
        assert digest_of(manifest_at(found.host, "blur")) == blur.digest
        with registry() as other:
            line = [f"{found.host}/blur", blur.directory, "--inputs-to", f"{other.host}/kept:blur"]
            assert push(*line).returncode == 0
            kept_there = place(f"{other.host}/kept")
            (inputs,) = inputs_of(blur.digest, [place(f"{found.host}/blur"), kept_there])
            assert kept_there.resolve("blur").digest == inputs.manifest.digest


def test_inputs_of_several_platforms_are_under_one_tag(push, copy_of, empty_store, tmp_path):
    """As an index, by which all of them are taken."""
    need("docker-registry")
    folder = copy_of("blur", SYSTEM, FOREIGN)
    with bases.registry(tmp_path) as host:
        reference, both = f"{host}/blur:1", f"{host}/kept:both"
        done = push(reference, folder, "--inputs-to", both)
        assert done.returncode == 0, done.stderr
        image = place(reference).resolve()
        kept_of = {
            one.platform["architecture"]: inputs_of(one.digest, [place(both)])[0].manifest.digest
            for one in manifests_of(place(reference).manifest(image.digest))
        }
        index = json.loads(manifest_at(host, "kept", "both"))
        assert (index["mediaType"], index["artifactType"]) == (INDEX, INPUTS)
        assert {one["platform"]["architecture"]: one["digest"] for one in index["manifests"]} == kept_of
        there = shutil.copytree(folder, tmp_path / "there", ignore=shutil.ignore_patterns(".tungsten"))
        succeed("fetch", there, "--from", both, before=empty_store, env=bases.NOBODY)
        # A tag that is the image's stays with it.
        assert push(reference, folder, "--inputs-to", reference).returncode == 0
        assert place(reference).resolve().digest == image.digest


def test_a_setting_has_each_push_keep_what_builds_it(copy_of, push):
    folder = copy_of("blur")
    (folder / "pyproject.toml").write_text("[tool.tungsten]\nkeep-inputs = true\n")
    with registry() as found:
        done = push(f"{found.host}/blur", folder)
        assert done.returncode == 0, done.stderr
        digest = done.stdout.strip().rpartition("@")[2]
        (inputs,) = inputs_of(digest, [place(f"{found.host}/blur")])
    lock = json.loads((folder / "tungsten.lock").read_text())
    named = {f"sha256:{deb['sha256']}" for deb in lock["platforms"][SYSTEM]["debs"]}
    assert named
    assert named <= {layer.digest for layer in inputs.layers}
