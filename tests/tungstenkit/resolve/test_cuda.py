"""CUDA in the solve: uv solves against an index on loopback whose tiny wheels depend on one another as the real
ones do.
"""

import pytest

from tests.tungstenkit.resolve.package_index import serve, view, wheel
from tests.tungstenkit.resolve.test_model import FakeSolver, python_of, runs_on, spec
from tungstenkit.audit.asked import unasked
from tungstenkit.lock.packages import WISH
from tungstenkit.platforms import Target
from tungstenkit.resolve.cuda import nearest_working, solve_wheels
from tungstenkit.resolve.cuda_wheels import describe
from tungstenkit.resolve.model import resolve
from tungstenkit.resolve.wheels import resolve_wheels
from tungstenkit.sdk.errors import ResolveError

pytestmark = pytest.mark.timeless("solves of uv's, of which test_written's and test_needed_by's are tried")

TARGET = Target("x86_64-linux", "bookworm", "3.11")
OLD = "cp311-cp311-manylinux_2_17_x86_64"

WHEELS = [
    *(wheel("nvidia-cuda-runtime-cu11", version) for version in ["11.7.99", "11.8.89"]),
    *(
        wheel("nvidia-cuda-runtime-cu12", v)
        for v in ["12.1.105", "12.4.99", "12.4.127", "12.6.77", "12.9.79"]
    ),
    *(wheel("nvidia-cuda-runtime", version) for version in ["13.0.96", "13.2.86", "13.5.37"]),
    *(wheel("nvidia-nvjitlink-cu12", v) for v in ["12.1.105", "12.4.127", "12.6.77", "12.9.86"]),
    *(wheel(f"nvidia-cudnn-cu{major}", version) for major in (11, 12, 13) for version in ["8.9", "9.1"]),
    *(wheel(f"nvidia-{name}-cu11", "11.8.1") for name in ["cublas", "cuda-nvrtc", "cufft", "curand"]),
    wheel("nvidia-nccl-cu12", "2.30"),
    wheel("cuda-toolkit", "12.4.0", extras={"cudart": ["nvidia-cuda-runtime-cu12==12.4.99"]}),
    wheel("cuda-toolkit", "12.4.1", extras={"cudart": ["nvidia-cuda-runtime-cu12==12.4.127"]}),
    wheel("triton", "3"),
    # Of before CUDA came as wheels: it holds CUDA, and says nothing.
    wheel("torch", "1.12.1"),
    wheel("torch", "2.0.1", "nvidia-cuda-runtime-cu11==11.7.99"),
    wheel("torch", "2.4.1", "nvidia-cuda-runtime-cu12==12.1.105", "nvidia-nvjitlink-cu12", "triton", tag=OLD),
    wheel(
        "torch", "2.6.0", "nvidia-cuda-runtime-cu12==12.4.127", "nvidia-nvjitlink-cu12==12.4.127", "triton"
    ),
    wheel("torch", "2.7.0", "nvidia-cuda-runtime-cu12==12.6.77", "nvidia-nvjitlink-cu12==12.6.77", "triton"),
    wheel("torch", "2.15.0", "nvidia-cuda-runtime==13.2.86", "nvidia-cudnn-cu13", "triton", "six"),
    wheel("torchvision", "0.30.0", "torch==2.15.0"),
    wheel("tensorflow", "2.13.0"),
    wheel("tensorflow", "2.21.0", extras={"and-cuda": ["nvidia-cuda-runtime-cu12>=12.4,<13"]}),
    wheel("tensorflow-cpu", "2.21.0"),
    wheel("keras-things", "1", "tensorflow"),
    wheel(
        "jax",
        "0.10.2",
        extras={"cuda12": ["nvidia-cuda-runtime-cu12"], "cuda13": ["nvidia-cuda-runtime>=13"]},
    ),
    wheel("onnxruntime", "1.31.1"),
    wheel("onnxruntime-gpu", "1.18.1"),
    wheel(
        "onnxruntime-gpu",
        "1.26.0",
        extras={"cuda": ["nvidia-cuda-runtime-cu12~=12.0"], "cudnn": ["nvidia-cudnn-cu12~=9.0"]},
    ),
    wheel(
        "onnxruntime-gpu",
        "1.31.1",
        extras={"cuda": ["nvidia-cuda-runtime~=13.0"], "cudnn": ["nvidia-cudnn-cu13~=9.0"]},
    ),
    wheel("cupy-cuda12x", "14.2.0", extras={"ctk": ["nvidia-cuda-runtime-cu12"]}),
    wheel("cupy-cuda13x", "14.2.0", extras={"ctk": ["nvidia-cuda-runtime"]}),
    wheel("xgboost", "3.2.0", "nvidia-nccl-cu12", "six"),
    wheel("xgboost-cpu", "3.2.0", "six"),
    # The old release needs no torch.
    wheel("detector", "1.0"),
    wheel("detector", "2.0", "torch"),
    wheel("six", "1.17.0"),
]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    """Nothing is kept from other tests, and no way round by a proxy is taken."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def index():
    with serve(WHEELS) as url:
        yield url


def solver_of(url, target=TARGET):
    def solve(requirements, constraints):
        offered = view(url, target)
        return resolve_wheels(requirements, offered, where="python_packages", constraints=constraints)

    return solve


@pytest.fixture
def lock_wheels(index):
    """Solves; the answer is a solution."""

    def lock_wheels(*requirements, gpu=True, cuda=None):
        return solve_wheels(solver_of(index), list(requirements), ["six"], gpu=gpu, cuda_version=cuda)

    return lock_wheels


def versions(solution):
    return {wheel.project: wheel.version for wheel in solution.wheels}


@pytest.mark.parametrize(
    ("cuda", "torch", "runtime"),
    [
        ("11", "2.0.1", "11.7"),
        ("12", "2.7.0", "12.6"),
        ("12.1", "2.4.1", "12.1"),
        ("12.4", "2.6.0", "12.4"),
        ("12.4.1", "2.6.0", "12.4"),
        ("13", "2.15.0", "13.2"),
        (None, "2.15.0", "13.2"),
    ],
)
def test_the_newest_release_for_the_version_is_taken(lock_wheels, cuda, torch, runtime):
    solution = lock_wheels("torch", cuda=cuda)
    assert versions(solution)["torch"] == torch
    assert solution.cuda.version == runtime
    assert [choice.chosen for choice in solution.choices if choice.kind == "cuda"] == [runtime]


def test_what_is_compiled_at_run_time_is_of_the_version_asked_for(lock_wheels):
    """A newer nvJitLink makes code that the driver of an older CUDA refuses."""
    assert versions(lock_wheels("torch", cuda="12.1"))["nvidia-nvjitlink-cu12"] == "12.1.105"


def test_a_patch_version_is_the_toolkits(lock_wheels):
    """CUDA 12.4.0 has the runtime 12.4.99, which no release of torch here takes."""
    with pytest.raises(ResolveError):
        lock_wheels("torch", cuda="12.4.0")
    with pytest.raises(ResolveError, match=r"there is no CUDA 12\.4\.7") as caught:
        lock_wheels("torch", cuda="12.4.7")
    assert "12.4" in caught.value.hint


@pytest.mark.parametrize(
    ("requirement", "cuda", "chosen"),
    [
        ("tensorflow", None, {"tensorflow": "2.21.0", "nvidia-cuda-runtime-cu12": "12.9.79"}),
        ("keras-things", None, {"tensorflow": "2.21.0", "nvidia-cuda-runtime-cu12": "12.9.79"}),
        ("jax", None, {"jax": "0.10.2", "nvidia-cuda-runtime": "13.5.37"}),
        ("jax", "12.4", {"jax": "0.10.2", "nvidia-cuda-runtime-cu12": "12.4.127"}),
        ("onnxruntime-gpu", None, {"onnxruntime-gpu": "1.31.1", "nvidia-cudnn-cu13": "9.1"}),
        ("onnxruntime-gpu", "12", {"onnxruntime-gpu": "1.26.0", "nvidia-cudnn-cu12": "9.1"}),
        ("onnxruntime-gpu", "11.8", {"onnxruntime-gpu": "1.18.1", "nvidia-cudnn-cu11": "8.9"}),
        ("cupy", None, {"cupy-cuda13x": "14.2.0", "nvidia-cuda-runtime": "13.5.37"}),
        ("cupy", "12.4", {"cupy-cuda12x": "14.2.0", "nvidia-cuda-runtime-cu12": "12.4.127"}),
        ("CuPy>=14", "12", {"cupy-cuda12x": "14.2.0"}),
    ],
)
def test_a_framework_that_does_not_bring_its_cuda_gets_it(lock_wheels, requirement, cuda, chosen):
    assert versions(lock_wheels(requirement, cuda=cuda)).items() >= chosen.items()


def test_two_frameworks_agree_on_a_major_version(lock_wheels):
    """The newest torch is for 13, TensorFlow for 12; JAX is for both."""
    solution = lock_wheels("torch", "tensorflow", "jax")
    assert solution.cuda.version == "12.6"
    assert versions(solution)["torch"] == "2.7.0"
    assert "nvidia-cuda-runtime" not in versions(solution)
    assert solution.notices == [
        "the newest releases bring different versions of CUDA; for 12: torch 2.7.0, not 2.15.0"
    ]


def test_what_is_only_named_after_another_cuda_brings_none():
    """vllm's compiler comes for both, and loads neither's runtime."""
    compiler = [wheel(f"nvidia-cutlass-dsl-libs-cu{major}", "4.8") for major in (12, 13)]
    vllm = wheel("vllm", "0.33", "torch", *(f"nvidia-cutlass-dsl-libs-cu{major}" for major in (12, 13)))
    old = wheel("vllm", "0.25", "torch", "nvidia-cutlass-dsl-libs-cu13")
    with serve([*WHEELS, *compiler, vllm, old]) as url:
        solution = solve_wheels(solver_of(url), ["vllm"], [], gpu=True, cuda_version=None)
    assert versions(solution)["vllm"] == "0.33"
    assert versions(solution)["torch"] == "2.15.0"
    assert (solution.cuda.version, solution.notices) == ("13.2", [])


def test_two_builds_of_one_library_are_for_two_cudas():
    """They are the same files."""
    nccl = wheel("nvidia-nccl-cu13", "2.30")
    torch = wheel("torch", "2.16.0", "nvidia-cuda-runtime==13.2.86", "nvidia-nccl-cu13")
    with serve([*WHEELS, nccl, torch]) as url:
        solution = solve_wheels(solver_of(url), ["torch", "xgboost"], [], gpu=True, cuda_version=None)
        assert versions(solution)["torch"] == "2.7.0"
        with pytest.raises(ResolveError) as caught:
            solve_wheels(solver_of(url), ["torch>2.15", "xgboost"], [], gpu=True, cuda_version=None)
    assert "- CUDA 12: nvidia-nccl-cu12 2.30 (python_packages: xgboost -> xgboost 3.2.0)" in caught.value.what
    assert (
        "- CUDA 13: nvidia-nccl-cu13 2.30 (python_packages: torch>2.15 -> torch 2.16.0)" in caught.value.what
    )


def test_a_rule_of_tungstens_own_is_called_so():
    """Nobody but tungsten says what this release loads."""
    libraries = ["cublas", "cuda-nvrtc", "cuda-runtime", "cufft", "curand"]
    cu12 = [wheel(f"nvidia-{name}-cu12", "12.9") for name in libraries]
    cudnn = [wheel("nvidia-cudnn-cu12", version) for version in ("8.9", "9.1")]
    asked = ["onnxruntime-gpu", "nvidia-cudnn-cu12<9"]
    with (
        serve([*cu12, *cudnn, wheel("onnxruntime-gpu", "1.20.1")]) as url,
        pytest.raises(ResolveError, match="no set of Python packages fits") as caught,
    ):
        solve_wheels(solver_of(url), asked, [], gpu=True, cuda_version=None)
    assert caught.value.what.splitlines()[-1] == (
        "nvidia-cudnn-cu12>=9,<10 is a rule of tungsten's own: it is what onnxruntime-gpu 1.20.1 needs for CUDA, and "
        "does not declare"
    )


def test_a_limit_on_cuda_is_called_tungstens_own(lock_wheels):
    with pytest.raises(ResolveError) as caught:
        lock_wheels("torch", "nvidia-cuda-runtime-cu12==12.1.105", cuda="12.4")
    assert (
        "nvidia-cuda-runtime-cu12==12.4.* is a rule of tungsten's own: it holds the solve to CUDA 12"
        in caught.value.what
    )


@pytest.mark.parametrize("cuda", [None, "12"])
def test_two_major_versions_in_one_image_are_refused_with_who_brings_them(lock_wheels, cuda):
    with pytest.raises(ResolveError) as caught:
        lock_wheels("cupy-cuda13x", "tensorflow", cuda=cuda)
    if cuda is None:
        assert "two versions of CUDA in one image: 12 and 13" in caught.value.what
        assert caught.value.what.splitlines()[1:] == [
            "- CUDA 12: nvidia-cuda-runtime-cu12 12.9.79 (python_packages: tensorflow -> tensorflow 2.21.0)",
            "- CUDA 13: cupy-cuda13x 14.2.0 (python_packages: cupy-cuda13x)",
            "- CUDA 13: nvidia-cuda-runtime 13.5.37 (python_packages: cupy-cuda13x -> cupy-cuda13x 14.2.0)",
        ]
    else:
        assert (
            caught.value.what
            == "cupy-cuda13x 14.2.0 has no build for CUDA 12 (python_packages: cupy-cuda13x)"
        )


def test_a_cuda_version_that_nothing_brings_is_refused(lock_wheels):
    with pytest.raises(ResolveError, match="no package of python_packages brings CUDA"):
        lock_wheels("six", cuda="12.4")


def test_a_gpu_that_nothing_uses_is_noticed(lock_wheels):
    solution = lock_wheels("onnxruntime")
    assert solution.cuda is None
    assert "gpu=True, but onnxruntime has no CUDA: onnxruntime-gpu does" in solution.notices
    assert "gpu=True, but no package of python_packages brings CUDA" in solution.notices


def test_the_lock_says_what_the_host_must_have(lock_wheels):
    cuda = lock_wheels("torch", cuda="12.4").cuda
    assert (cuda.minimum_driver, cuda.native_driver) == ("525.60.13", "550.54.14")
    assert cuda.wheels == ("nvidia-cuda-runtime-cu12", "nvidia-nvjitlink-cu12", "triton")
    assert cuda.libraries == ("nvidia/cuda_runtime/lib", "nvidia/nvjitlink/lib")


def test_from_cuda_13_on_libraries_share_a_folder(lock_wheels):
    assert lock_wheels("torch").cuda.libraries == ("nvidia/cu13/lib", "nvidia/cudnn/lib")


def test_a_publishers_own_build_says_its_cuda_in_its_version():
    """It may hold CUDA itself, without a wheel for it."""
    with serve([wheel("torch", "2.0.1+cu118")]) as url:
        solution = solve_wheels(solver_of(url), ["torch"], [], gpu=True, cuda_version=None)
        with pytest.raises(ResolveError, match=r"bring CUDA 11\.8"):
            solve_wheels(solver_of(url), ["torch"], [], gpu=True, cuda_version="12.4")
    assert (solution.cuda.version, solution.cuda.minimum_driver) == ("11.8", "450.80.02")


def with_cpu_builds(*requirements, cuda=None, wheels=WHEELS):
    """Where pip's links have builds for the CPU, too, which PEP 440 holds for newer ones."""
    with serve([*wheels, wheel("torch", "2.7.0+cpu")]) as url:
        return solve_wheels(solver_of(url), list(requirements), [], gpu=True, cuda_version=cuda)


def test_a_gpu_gets_no_build_for_the_cpu_where_there_is_another():
    assert with_cpu_builds("torch==2.7.0").cuda.version == "12.6"


def test_a_build_for_the_cpu_does_not_hide_that_no_release_fits():
    with pytest.raises(ResolveError, match="no set of Python packages fits"):
        with_cpu_builds("torch", cuda="12.5")


def test_a_gpu_that_only_builds_for_the_cpu_could_use_is_noticed():
    solution = with_cpu_builds("torch", wheels=[])
    assert solution.notices == [
        "gpu=True, but no package of python_packages brings CUDA; torch 2.7.0+cpu is a build for the CPU"
    ]


def test_wheels_without_cuda_are_none(lock_wheels):
    assert describe(lock_wheels("six", gpu=False).wheels) is None


# Without a GPU

CPU_TORCH = wheel("torch", "2.14.0+cpu", "six")


def without_gpu(wheels, *requirements):
    with serve([*WHEELS, *wheels]) as url:
        return solve_wheels(solver_of(url), list(requirements), [], gpu=False, cuda_version=None)


def test_without_a_gpu_a_build_for_the_cpu_is_taken():
    solution = without_gpu([CPU_TORCH], "torch")
    assert versions(solution) == {"torch": "2.14.0+cpu", "six": "1.17.0"}
    assert solution.cuda is None
    assert [(choice.chosen, choice.reason) for choice in solution.choices] == [
        ("torch 2.14.0+cpu", "builds for the CPU")
    ]


def test_a_build_for_the_cpu_of_one_alone_of_the_family_is_not_taken():
    """torchvision for CUDA does not load with torch for the CPU."""
    alone = [CPU_TORCH, wheel("torchvision", "0.29.0", "torch==2.14.0")]
    assert versions(without_gpu(alone, "torch", "torchvision"))["torch"] == "2.15.0"
    family = [wheel("torch", "2.15.0+cpu", "six"), wheel("torchvision", "0.30.0+cpu", "torch==2.15.0")]
    solution = without_gpu(family, "torch", "torchvision")
    assert versions(solution) == {"torch": "2.15.0+cpu", "torchvision": "0.30.0+cpu", "six": "1.17.0"}


def test_builds_that_do_not_belong_together_are_noticed():
    solution = without_gpu([wheel("torch", "2.15.0+cpu", "six")], "torch", "torchvision")
    (notice,) = solution.notices
    assert notice.startswith("torch 2.15.0+cpu, torchvision 0.30.0: ")


@pytest.mark.parametrize(
    ("requirement", "chosen"),
    [
        ("tensorflow>=2.14", {"tensorflow-cpu": "2.21.0"}),
        ("xgboost", {"xgboost-cpu": "3.2.0", "six": "1.17.0"}),
    ],
)
def test_a_build_for_the_cpu_of_another_name_is_taken(requirement, chosen):
    assert versions(without_gpu([], requirement)) == chosen


def test_a_build_of_another_name_is_not_put_beside_the_one_that_is_needed():
    """Both hold the same files."""
    assert "tensorflow-cpu" not in versions(without_gpu([], "tensorflow", "keras-things"))


@pytest.mark.parametrize("requirement", ["torch", "detector"])
def test_where_cuda_cannot_be_avoided_its_price_is_said(requirement):
    """Neither a torch that hides its CUDA is taken, nor a release from before torch was needed."""
    solution = without_gpu([], requirement)
    assert versions(solution)["torch"] == "2.15.0"
    assert solution.cuda.version == "13.2"
    (choice,) = solution.choices
    assert choice.chosen == "0.0 GB of CUDA, in 3 wheels"
    (notice,) = solution.notices
    assert choice.chosen in notice


# The real index


@pytest.fixture(scope="module")
def real(upstream):
    solve = solver_of(upstream.pypi)
    return lambda requirement, cuda: solve_wheels(solve, [requirement], [], gpu=True, cuda_version=cuda)


@pytest.mark.upstream
@pytest.mark.parametrize(
    "version",
    ["12.8", *(pytest.param(version, marks=pytest.mark.soak) for version in ("12.1", "12.4", "13.0"))],
)
def test_torch_is_found_for_each_version(real, version):
    solution = real("torch", version)
    assert solution.cuda.version == version
    assert "torch" in versions(solution)


@pytest.mark.upstream
@pytest.mark.soak
@pytest.mark.parametrize("framework", ["tensorflow", "jax", "onnxruntime-gpu", "cupy", "paddlepaddle-gpu"])
def test_every_framework_has_its_cuda(real, framework):
    assert "." in real(framework, None).cuda.version


# All of it


class RealWheels(FakeSolver):
    """Debian packages are made up; wheels are uv's to solve."""

    def __init__(self, url):
        super().__init__()
        self.url = url

    def wheels(self, target, requirements, where, prefer, constraints=()):
        if where != "python_packages":
            return ()
        mine = [
            requirement for requirement in requirements if not requirement.startswith(("pydantic", "pillow"))
        ]
        offered = view(self.url, target)
        return resolve_wheels(mine, offered, where=where, prefer=prefer, constraints=constraints)


@pytest.fixture
def on_3_13(monkeypatch):
    runs_on(monkeypatch, 3, 13)


def test_the_cuda_version_decides_about_python_too(index, on_3_13):
    solver = RealWheels(index)
    lock = resolve(spec(gpu=True, cuda_version="12.1", python_packages=["torch"]), solver, None)
    assert python_of(lock) == ("3.11", "bookworm")
    assert "Python 3.13 failed" in lock.choices[0].reason
    assert lock.platforms["x86_64-linux"].cuda.version == "12.1"


def test_an_impossible_cuda_version_names_the_nearest_that_work(index):
    asked = spec(gpu=True, cuda_version="12.5", python_packages=["torch"])
    with pytest.raises(ResolveError, match=r"no releases of python_packages fit CUDA 12\.5") as caught:
        resolve(asked, RealWheels(index), None)
    assert caught.value.where == "cuda_version"
    assert caught.value.hint == (
        "these work: 12.4, 12.6; or name an index of torch built for CUDA 12.5, by --extra-index-url in "
        "python_packages"
    )


def test_where_none_near_works_the_solves_own_choice_is_named(index):
    asked = spec(gpu=True, cuda_version="11.8", python_packages=["torch>=2.15"])
    with pytest.raises(ResolveError) as caught:
        resolve(asked, RealWheels(index), None)
    assert caught.value.hint.startswith("these work: 13.2;")


def test_an_impossible_requirement_is_not_blamed_on_cuda(index):
    asked = spec(gpu=True, cuda_version="12.4", python_packages=["torch", "six==99"])
    with pytest.raises(ResolveError, match=r"six==99") as caught:
        resolve(asked, RealWheels(index), None)
    assert caught.value.where == "python_packages"


def test_notices_are_said_once_for_all_platforms(index):
    solver = RealWheels(index)
    asked = spec(gpu=True, python_packages=["six"])
    resolve(asked, solver, None, systems=["aarch64-linux", "x86_64-linux"])
    assert solver.notices == ["gpu=True, but no package of python_packages brings CUDA"]


def test_a_notice_of_one_platform_names_it():
    marked = wheel("net", "1", "nvidia-cuda-runtime ; platform_machine == 'x86_64'")
    with serve([marked, wheel("nvidia-cuda-runtime", "13.5.37")]) as url:
        solver = RealWheels(url)
        asked = spec(gpu=True, python_packages=["net"])
        resolve(asked, solver, None, systems=["aarch64-linux", "x86_64-linux"])
    assert solver.notices == ["aarch64-linux: gpu=True, but no package of python_packages brings CUDA"]


def test_pins_that_still_fit_are_kept(index):
    first = resolve(spec(gpu=True, python_packages=["torch<2.15"]), RealWheels(index), None)
    again = resolve(spec(gpu=True, python_packages=["torch"]), RealWheels(index), first)
    assert again.platforms["x86_64-linux"].cuda.version == "12.6"


@pytest.mark.parametrize(
    ("gpu", "requirements"),
    [
        (True, ["torch", "tensorflow"]),
        (True, ["jax"]),
        (True, ["onnxruntime-gpu"]),
        (True, ["cupy"]),
        (False, ["torch"]),
        (False, ["xgboost"]),
        (False, ["tensorflow>=2.14"]),
    ],
)
def test_relocking_changes_nothing_and_all_of_a_lock_was_asked_for(gpu, requirements):
    asked = spec(gpu=gpu, python_packages=requirements)
    with serve([*WHEELS, CPU_TORCH]) as url:
        first = resolve(asked, RealWheels(url), None)
        assert resolve(asked, RealWheels(url), first) == first
    ((system, platform),) = first.platforms.items()
    # Debian is none here, so what is of it has no reasons.
    wheels = {"platforms": {system: platform.model_copy(update={"debs": ()})}, "server": {}, "tools": {}}
    assert [*unasked(first.model_copy(update=wheels), asked)] == []
    whose = {entry for one in platform.wheels for entry in one.needed_by if WISH in entry}
    assert {f"python_packages: {text}" for text in requirements} <= whose


def test_the_nearest_versions_are_looked_for_on_both_sides_and_not_for_ever():
    tried = []

    def works(version):
        tried.append(version)
        return version if version == "12.6" else None

    assert nearest_working("12.7", works) == ["12.6"]
    assert tried == ["12.6", "12.8", "12.9", "13.0"]
    tried.clear()
    # What is part of 12 is not next to it.
    assert nearest_working("12", works) == []
    assert tried == ["11.8", "11.7", "13.0", "13.1"]
