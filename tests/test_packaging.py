"""What `pip install tts-infer` brings: everything that decodes, and nothing that only an extra needs."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools.config.pyprojecttoml import read_configuration

from tests.conftest import ROOT
from tests.distributions import HEAD, every_requirement, link, needed_by, of_file
from tests.matrix import bounds, lower

PROJECT: dict[str, Any] = read_configuration(ROOT / "pyproject.toml")["project"]
CORE, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
CLIP = str(ROOT / "examples" / "english.wav")


def package(requirement: str) -> str:
    """The name in front of the bounds."""
    return re.split("[<>=]", requirement)[0]


def test_the_core_is_light() -> None:
    names = {package(requirement) for requirement in CORE}
    assert names == {"torch", "numpy", "safetensors", "soundfile", "soxr", "pyyaml", "huggingface_hub", "tqdm"}


def test_the_space_installs_core_app_vocos_and_speak() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        *CORE,
        *EXTRAS["app"],
        *EXTRAS["vocos"],
        *EXTRAS["speak"],
    ]


def test_a_bound_stands_once() -> None:
    bounded = {package(line) for lines in (CORE, *EXTRAS.values()) for line in lines}
    for file in ("requirements-test.txt", "requirements-bench.txt", "training/requirements.txt"):
        named = {package(line) for line in (ROOT / file).read_text().splitlines() if re.match(r"\w", line)}
        assert not named & bounded, f"{file} repeats bounds of pyproject.toml"


def test_all_is_every_extra() -> None:
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(EXTRAS) - {"all", "mlx"}  # which many systems have no wheel for


def test_constraints_fit_the_requirements() -> None:
    """`make constraints` writes what is installed; here it need not be that, but must be within every bound."""
    pinned = {one.name: one.specifier for one in map(Requirement, of_file("constraints.txt"))}
    files = ("requirements-test.txt", "training/requirements.txt")
    lines = [*every_requirement(), *(line for file in files for line in of_file(file))]
    for wanted in map(Requirement, lines):
        (pin,) = pinned[canonicalize_name(wanted.name)]
        assert pin.operator == "==" and wanted.specifier.contains(pin.version), wanted
    assert (ROOT / "constraints.txt").read_text() == HEAD + "".join(
        f"{name}{pinned[name]}\n" for name in sorted(pinned)
    )


def test_every_dependency_has_its_sentence() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([\w-]+)` \| .*? \| (.+) \|$", page, flags=re.MULTILINE))
    assert set(told) == {Requirement(line).name for line in every_requirement()}
    assert all(re.fullmatch(r"[A-Z].{20,}\.", sentence) for sentence in told.values())


def test_the_ends_of_the_matrix_are_the_bounds() -> None:
    assert lower("numpy>=1.26,<3") == "numpy==1.26" and lower("vocos==0.1.0") == "vocos==0.1.0"
    assert len(bounds("lowest")) == len(CORE) and bounds("newest", ("app",)) == [*CORE, *EXTRAS["app"]]
    for one, line in zip(map(Requirement, bounds("lowest")), CORE, strict=True):
        (pin,) = one.specifier
        assert pin.operator == "==" and Requirement(line).specifier.contains(pin.version)


@pytest.mark.parametrize(("folder", "extras"), [("tts_infer", set(EXTRAS) - {"app"}), ("ui", {"app"})])
def test_what_is_imported_is_declared(folder: str, extras: set[str]) -> None:
    sources = "\n".join(file.read_text() for file in (ROOT / folder).rglob("*.py"))
    modules = set(re.findall(r"^ *(?:import|from) (\w+)", sources, flags=re.MULTILINE))
    modules |= set(re.findall(r"\b(?:require|require_package|without_native_torchaudio)\(\"(\w+)", sources))
    modules -= sys.stdlib_module_names  # Resemblyzer brings a `typing` for Python 2
    found = importlib.metadata.packages_distributions()  # itself is one of them, and gradio brings its client
    imported = {canonicalize_name(name) for module in modules for name in found.get(module, ())} - {
        "tts-infer",
        "gradio-client",
        "mlx-cpu",
        "typing-extensions",  # for type checkers only
    }
    declared = [*CORE, *(requirement for extra in extras for requirement in EXTRAS[extra])]
    assert imported and imported <= {canonicalize_name(Requirement(requirement).name) for requirement in declared}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the tree stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(folder / "source")], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_code_configs_and_the_embedded_vocoder(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "tts-infer = tts_infer.__main__:main" in archive.read(entry_points).decode()
    package = ROOT / "tts_infer"
    package_files = [*package.rglob("*.py"), *package.glob("assets/*/*"), *package.glob("export/web/*")]
    configs = {f"tts_infer/{file.relative_to(ROOT)}" for file in (ROOT / "configs").rglob("*.yaml")}
    assert held == {str(file.relative_to(ROOT)) for file in package_files} | configs


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh virtual environment with the wheel and what pip brings along.

    torch and what it needs are those that run this test: a fresh download could be of gigabytes, for CUDA.
    """
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in needed_by("torch"):
        link(name, site)
    subprocess.run([folder / "bin" / "pip", "install", "-q", str(wheel)], check=True, capture_output=True, timeout=250)
    return folder / "bin"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_alone_it_decodes_and_brings_no_extra(alone: Path, tmp_path: Path) -> None:
    code = "import tts_infer, numpy; print(tts_infer.load_vocoder().decode(numpy.zeros((100, 94), 'float32')).shape)"
    done = run(alone / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "torch.Size([1, 23808])\n", done.stderr
    listed = run(alone / "python", "-m", "pip", "list", "--format", "json", cwd=tmp_path)
    brought = {canonicalize_name(entry["name"]) for entry in json.loads(listed.stdout)}
    assert {canonicalize_name(package(requirement)) for requirement in CORE} <= brought
    extras = {canonicalize_name(Requirement(r).name) for extra in set(EXTRAS) - {"all"} for r in EXTRAS[extra]}
    assert not brought & (extras | {"torchaudio", "encodec", "matplotlib"})


@pytest.mark.slow
def test_alone_the_command_finds_its_configs(alone: Path, tmp_path: Path) -> None:
    done = run(alone / "tts-infer", "decode", CLIP, "-o", "out.wav", "--placement", "cpu", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] == pytest.approx(3, abs=1) and (tmp_path / "out.wav").is_file()
    listed = run(alone / "tts-infer", "vocoders", "--json", cwd=tmp_path)
    assert len(json.loads(listed.stdout)) == len(list((ROOT / "configs" / "vocoders").glob("*.yaml")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["batch", CLIP, "--out", "out", "--executor", "ray"], "ray"),
        (["evaluate", CLIP], "evaluate"),
    ],
    ids=["ray", "evaluate"],
)
def test_alone_what_an_extra_brings_is_named(alone: Path, tmp_path: Path, arguments: list[str], extra: str) -> None:
    done = run(alone / "tts-infer", *arguments, cwd=tmp_path)
    assert f"pip install 'tts-infer[{extra}]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_benchmarks_run_by_their_paths(tmp_path: Path) -> None:
    """The Makefile puts the folder of the project on the path of its environment."""
    if not (Path(sysconfig.get_path("purelib")) / "tts-infer-tools.pth").exists():
        pytest.skip("this environment was not made by make test")
    command = [sys.executable, str(ROOT / "benchmarks" / "losses.py"), "--help"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (told.returncode, told.stdout[:6]) == (0, "usage:"), told.stderr
