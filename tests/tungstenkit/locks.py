"""Small locks for tests: an example's, with its image's packages replaced."""

from tests import generate
from tungstenkit.lock.document import LOCK_NAME, read_lock
from tungstenkit.lock.packages import Deb, Source, SourceBuild, Wheel
from tungstenkit.lock.parts import BaseImage, Choice, Files
from tungstenkit.spec.document import ModelSpec

__all__ = ["SYSTEM", "Choice", "base_image", "deb", "files", "lock", "source", "spec", "wheel"]

SYSTEM = "x86_64-linux"


def deb(name, version="1", needed_by=(), **fields):
    values = {
        "architecture": "amd64",
        "file": f"mirror://debian/pool/main/{name}_{version}_amd64.deb",
        "size": 1000,
        "sha256": "0" * 64 if version == "1" else "1" * 64,
        "group": "system",
        "source": f"{name} ({version})",
    }
    return Deb(name=name, version=version, needed_by=needed_by, **{**values, **fields})


def wheel(project, version="1", needed_by=(), **fields):
    values = {
        "file": f"{project.replace('-', '_')}-{version}-py3-none-any.whl",
        "size": 1000,
        "sha256": "0" * 64 if version == "1" else "1" * 64,
    }
    return Wheel(project=project, version=version, needed_by=needed_by, **{**values, **fields})


def source(project, version="1", needed_by=(), **fields):
    values = {
        "file": f"{project.replace('-', '_')}-{version}.tar.gz",
        "size": 1000,
        "sha256": "2" * 64,
        "build": SourceBuild(
            backend="setuptools.build_meta",
            wheels=(wheel("setuptools", needed_by=(f"the build of {project} {version}: setuptools",)),),
            debs=(),
        ),
    }
    return Source(project=project, version=version, needed_by=needed_by, **{**values, **fields})


def files(*downloads):
    """What of a model's `files` is downloads."""
    return Files(downloads=downloads)


def base_image(digit="0"):
    """One without layers; digit: of what its digest is made."""
    return BaseImage(
        reference="images.example/base:1",
        named=f"sha256:{digit * 64}",
        digest=f"sha256:{digit * 64}",
        layers=(),
        environment={},
        labels={},
        exposed_ports=(),
        libc="2.36",
        certificates=None,
        python=None,
    )


def lock(*entries, choices=(), **platform):
    """A lock of one platform whose image has nothing but these; the server and the tools are the example's."""
    example = read_lock(generate.ROOT / "examples" / "caption" / LOCK_NAME)
    changed = example.platforms[SYSTEM].model_copy(
        update={
            "debs": tuple(one for one in entries if isinstance(one, Deb)),
            "wheels": tuple(one for one in entries if isinstance(one, Wheel)),
            "sources": tuple(one for one in entries if isinstance(one, Source)),
            **platform,
        }
    )
    return example.model_copy(update={"platforms": {SYSTEM: changed}, "choices": tuple(choices)})


def spec(of=ModelSpec, **fields):
    """A model's that asks for nothing. of: the class of the document."""
    values = {
        "name": "model",
        "module": "tungsten_model",
        "class_name": "Model",
        "batch_size": 1,
        "gpu": False,
        "gpu_mem_gb": 16,
        "mem_gb": 8,
        "cuda_version": None,
        "python_version": None,
        "python_packages": [],
        "system_packages": [],
        "dockerfile_commands": [],
        "base_image": None,
        "include_files": ["*"],
        "exclude_files": [],
        "has_setup": False,
        "has_post_build": False,
        "has_predict_demo": False,
        "input_schema": {},
        "output_schema": {},
        "demo_output_schema": None,
    }
    return of.model_validate({**values, **fields})
