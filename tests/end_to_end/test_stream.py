"""An image goes to an engine and to a registry without a copy of its layers in the store, and keeps its digest."""

import secrets
import shutil
import subprocess

import pytest
import requests

from tests.end_to_end import bases
from tests.end_to_end.harness import ENGINE, free_port, nix, nix_line, succeed, tungsten
from tests.machine import need, needs


@pytest.fixture(scope="module")
def exported(blur, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "blur"
    succeed("nix-export", blur.directory, "-o", folder)
    return folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Debian's docker-registry on loopback; its address."""
    need("docker-registry", "skopeo")
    with bases.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def nix_run(folder, *arguments, **options):
    return subprocess.run(
        nix_line("nix", "run", *arguments), cwd=folder, capture_output=True, timeout=600, **options
    )


def digest_at(registry, name):
    accept = "application/vnd.oci.image.manifest.v1+json"
    answer = requests.head(
        f"http://{registry}/v2/{name}/manifests/latest", headers={"Accept": accept}, timeout=20
    )
    return answer.headers["Docker-Content-Digest"]


def test_a_stream_is_the_images_archive(exported, tmp_path):
    archive = nix("nix", "build", f"path:{exported}#model-image", "-o", tmp_path / "image")
    assert archive == ""
    streamed = nix_run(exported, "path:.#stream-image")
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout == (tmp_path / "image").read_bytes()


@needs(*ENGINE)
def test_podman_loads_a_stream(exported, blur):
    command = nix_line("nix", "run", "path:.#stream-image")
    with subprocess.Popen(command, cwd=exported, stdout=subprocess.PIPE) as stream:
        loaded = subprocess.run(["podman", "load"], stdin=stream.stdout, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    image = loaded.stdout.split()[-1]
    found = subprocess.run(
        ["podman", "image", "inspect", "--format", "{{.Id}}", image], capture_output=True, text=True
    )
    assert f"sha256:{found.stdout.strip()}" == blur.image_id


def test_a_terminal_is_refused(exported):
    need("script")
    program = nix("nix", "eval", "--raw", f"path:{exported}#apps.x86_64-linux.stream-image.program")
    done = subprocess.run(["script", "-qec", program, "/dev/null"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "not for a terminal" in done.stdout


def test_nix_alone_pushes_under_the_images_digest(exported, blur, registry):
    name = f"blur-{secrets.token_hex(4)}"
    pushed = nix_run(
        exported, "path:.#push-image", "--", f"{registry}/{name}", "--dest-tls-verify=false", text=True
    )
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout == f"{registry}/{name}@{blur.digest}\n"
    assert digest_at(registry, name) == blur.digest


def test_tungsten_pushes_under_the_images_digest(blur, registry):
    name = f"blur-{secrets.token_hex(4)}"
    flag = "--skopeo-arg=--dest-tls-verify=false"
    assert succeed("push", f"{registry}/{name}", blur.directory, flag) == f"{registry}/{name}@{blur.digest}\n"
    assert digest_at(registry, name) == blur.digest


@needs("skopeo")
def test_a_registry_that_is_not_there_is_told(exported, blur):
    place = f"127.0.0.1:{free_port()}"
    done = tungsten("push", f"{place}/blur", blur.directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: the image could not be pushed: " in done.stderr
    assert f"hint: nothing answers at {place}: " in done.stderr
    by_nix = nix_run(exported, "path:.#push-image", "--", f"{place}/blur", text=True)
    assert (by_nix.returncode, by_nix.stdout) == (1, "")


@pytest.mark.parametrize("how", ["nix", "tungsten"])
def test_without_skopeo_it_is_asked_for(how, exported, blur, tmp_path):
    for name in filter(shutil.which, ("nix", "nix-store", "sh")):
        (tmp_path / name).symlink_to(shutil.which(name))
    if how == "tungsten":
        done = tungsten("push", "host/blur", blur.directory, env={"PATH": str(tmp_path)})
    else:
        done = nix_run(
            exported,
            "path:.#push-image",
            "--",
            "host/blur",
            text=True,
            env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        )
    assert done.returncode == 1
    assert "there is no skopeo on PATH" in done.stderr
    assert "apt-get install skopeo" in done.stderr
