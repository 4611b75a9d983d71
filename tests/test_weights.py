"""Files that are no weights, and files made to hurt: each is one helpful line, and none runs its own code."""

from __future__ import annotations

import io
import random
import re
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.test_layouts import SMALL, WEIGHTS, sections
from tts_infer.errors import CheckpointError, ConfigError, TTSInferError
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.weights import read_weights

ROOT = Path(__file__).parent.parent


def refusal(path: Path) -> str:
    """What is said of a file that is not read."""
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert str(path) in message and len(message) <= 500 and "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".bin", ".safetensors", ".ckpt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 54365991\n",
            "git-lfs pointer.*git lfs pull",
        ),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page.*'resolve' in place of 'blob'"),
        (b"", "is empty; fetch the file again"),
        (b"no weights at all", "cannot read weights from .*; fetch the file again"),
    ],
)
def test_what_is_often_found_in_the_place_of_weights(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    path = tmp_path / f"vocos{suffix}"
    path.write_bytes(content)
    assert re.search(message, refusal(path))


class Harmful:
    """Its pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_a_whole_model_says_how_to_save_its_weights(tmp_path: Path) -> None:
    for name, content in (("a.pt", SMALL), ("b.pt", {"model": SMALL, "epoch": 1})):
        torch.save(content, tmp_path / name)
        said = refusal(tmp_path / name)
        assert "torch.save(model.state_dict(), 'weights.pt')" in said and "holds whole objects (" in said
    script = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(script, str(tmp_path / "c.pt"))
    assert "is a program of TorchScript, which is never run; where it was made, save" in refusal(tmp_path / "c.pt")
    torch.save(SMALL, tmp_path / "d.pt", _use_new_zipfile_serialization=False)
    assert "holds whole objects (tts_infer.vocoders.vocos.Vocos)" in refusal(tmp_path / "d.pt")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("place", [lambda h, w: h, lambda h, w: {**w, "hyper_parameters": h}, lambda h, w: {"a": h}])
def test_no_code_of_a_file_runs(tmp_path: Path, place: Callable[..., Any], new: bool) -> None:
    """Whatever function it names: one that torch blocks, a builtin, one of ours that is imported already."""
    trace = tmp_path / "trace"
    for harm in (Harmful(exec, f"open({str(trace)!r}, 'w')"), Harmful(Path.touch, trace), Harmful(touch, str(trace))):
        path = tmp_path / "x.pt"
        torch.save(place(harm, WEIGHTS), path, _use_new_zipfile_serialization=new)
        with suppress(CheckpointError):  # beside the tensors, the object may be passed over
            read_weights(path)
        assert not trace.exists()
    assert harm.call[0](*harm.call[1]) is None and trace.exists()  # as it would be


def touch(path: str) -> None:
    Path(path).touch()


def test_the_classes_that_torch_allows_stay_as_they_were(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({**WEIGHTS, "x": Harmful(touch, "y")}, tmp_path / "x.pt")
    read_weights(tmp_path / "x.pt")
    assert set(torch.serialization.get_safe_globals()) == before  # torch lists them in no order


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.zeros(1)}, "holds no named tensors, but a dict of 1; it must be a state dict"),
        ({"a": 1.0}, "holds no named tensors, but a dict of a"),
        ([torch.zeros(1)], "holds no named tensors, but a list"),
        (torch.zeros(1), "holds no named tensors, but a Tensor"),
        ({"a": torch.eye(3).to_sparse()}, "a is a sparse tensor; save dense tensors"),
        ({"a": torch.zeros(2, device="meta")}, "a is without values"),
        ({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, "a is quantized"),
        ({"a": torch.zeros(1).expand(10**12)}, "a is few values spread over a larger shape"),
        ({"b": {"a": torch.zeros(2, 1).expand(2, 3)}}, "b.a is few values spread over"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    assert message in refusal(tmp_path / "x.pt")


def test_mappings_that_contain_themselves_or_grow(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"a": torch.zeros(1)}
    loop["self"] = loop
    torch.save(loop, tmp_path / "x.pt")
    assert set(read_weights(tmp_path / "x.pt")) == {"self." * n + "a" for n in range(5)}
    wide: Any = {str(i): 1 for i in range(500)}
    for _ in range(3):
        wide = {str(i): wide for i in range(500)}
    torch.save(wide, tmp_path / "x.pt")
    assert "holds more than 200000 entries" in refusal(tmp_path / "x.pt")


def repacked(path: Path, size: int, kind: int = zipfile.ZIP_DEFLATED) -> None:
    """A file of torch whose one tensor has `size` bytes, packed by another program."""
    packed = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, packed)
    source = zipfile.ZipFile(packed)
    with zipfile.ZipFile(path, "w", kind) as out:
        for entry in source.infolist():
            out.writestr(entry.filename, bytes(size) if entry.filename.endswith("data/0") else source.read(entry))


def test_archives_that_were_packed_again(tmp_path: Path) -> None:
    repacked(tmp_path / "x.pt", 10_000_000)
    assert "was packed again, and unpacks to 1000" in refusal(tmp_path / "x.pt")
    repacked(tmp_path / "x.pt", 16, zipfile.ZIP_STORED)
    assert read_weights(tmp_path / "x.pt")["a"].tolist() == [0.0] * 4


BIG = {
    "layers": ("num_layers: 2", "num_layers: 1000000000"),
    "window": ("n_fft: 512", "n_fft: 1000000"),
    "overlap": ("hop_length: 128", "hop_length: 1"),
    "mels": ("n_mels: 40", "n_mels: 3000000"),
    "dim": ("dim: 32", "dim: 2147483647"),
    "inner dim": ("intermediate_dim: 64", "intermediate_dim: 9000000000000000000"),
}


@pytest.mark.parametrize("what", BIG)
def test_sizes_are_bounded_before_anything_is_built(tmp_path: Path, what: str) -> None:
    text = yaml.safe_dump(sections()).replace(*BIG[what])
    if what == "mels":
        text = text.replace("input_channels: 40", "input_channels: 3000000")
    (tmp_path / "config.yaml").write_text(text)
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"it can be at most \d+: the config|at most 64 windows|up to \d+") as caught:
        load_model(resolve(tmp_path))
    assert len(str(caught.value)) <= 300


# Of the machine, where a bound is missing: memory is capped, and a hang ends at the time limit.
HOSTILE = """
import resource, sys
from pathlib import Path
import tts_infer
from tts_infer.vocoders.checkpoint import load_model, resolve
before = resource.getrusage(resource.RUSAGE_SELF)
for folder in sys.argv[1:]:
    try:
        load_model(resolve(folder))
    except tts_infer.TTSInferError as error:
        print("refused", len(str(error)))
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_maxrss - before.ru_maxrss)
"""


def test_hostile_files_need_no_memory(tmp_path: Path) -> None:
    """Together they add less than 100 MB to the process; each alone asks for gigabytes."""
    text = yaml.safe_dump(sections())
    for i, change in enumerate([*BIG.values(), ("", "")]):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "config.yaml").write_text(text.replace(*change))
        save_file(WEIGHTS, tmp_path / str(i) / "model.safetensors")
    last = tmp_path / str(len(BIG))
    (last / "model.safetensors").unlink()
    repacked(last / "pytorch_model.bin", 300_000_000)
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, *map(str, sorted(tmp_path.iterdir()))],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *refused, growth_kb = done.stdout.splitlines()
    assert len(refused) == len(BIG) + 1 and int(growth_kb) < 100_000


# Mutations: of bytes, names, shapes and configurations.


def outcome(folder: Path) -> str:
    """What becomes of a folder: it loads, or it is refused in one line of bounded length."""
    try:
        load_model(resolve(folder))
    except TTSInferError as error:
        message = str(error)
    else:
        return "loads"
    assert len(message) <= 500 and "\n" not in message, message
    return "refused"


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, taken out, put in or doubled, mostly near the beginning, where headers are."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = (
            min(int(chance.expovariate(1 / 400)), len(data) - 1)
            if chance.random() < 0.8
            else chance.randrange(len(data))
        )
        kind = chance.randrange(4)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at : at + chance.randint(1, 40)]
        elif kind == 2:
            data[at:at] = chance.randbytes(chance.randint(1, 9))
        else:
            data[at:at] = data[at : at + chance.randint(1, 60)]
    return bytes(data)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "legacy", "config.yaml"])
def test_mutated_bytes(tmp_path: Path, file: str) -> None:
    config = yaml.safe_dump(sections())
    (tmp_path / "config.yaml").write_text(config)
    path = tmp_path / ("pytorch_model.bin" if file == "legacy" else file)
    if file in ("model.safetensors", "config.yaml"):
        save_file(WEIGHTS, tmp_path / "model.safetensors")
    else:
        torch.save({"state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=file != "legacy")
    whole, outcomes = path.read_bytes(), set()
    for seed in range(150):
        path.write_bytes(mutated(whole, random.Random(seed)))
        outcomes.add(outcome(tmp_path))
    assert "refused" in outcomes


def test_mutated_names_and_shapes(tmp_path: Path) -> None:
    """A tensor is renamed, taken out, turned, cut, spread, made of another type or filled with NaN."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections()))
    changes: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda t: t[:-1], lambda t: t[None], lambda t: t[..., None], lambda t: t.long(),
        lambda t: t.to(torch.complex64), lambda t: t * float("nan"),
        lambda t: t.mT if t.ndim > 1 and t.shape[-1] != t.shape[-2] else t[:0],
        lambda t: torch.zeros(()), lambda t: t[:1].clone().expand(t.shape) if t.shape[0] > 1 else t[:0],
    ]  # fmt: skip
    for seed in range(150):
        chance = random.Random(seed)
        weights: Any = OrderedDict(WEIGHTS)
        name = chance.choice([name for name in WEIGHTS if not name.endswith("dwconv.weight")])
        tensor = weights.pop(name)
        kind = chance.randrange(3)
        if kind == 0:
            weights[chance.choice(["", ".", "\n", name + ".", "." + name[1:], name.upper(), "x" * 600])] = tensor
        elif kind == 1:
            weights[name] = chance.choice(changes)(tensor)
        torch.save(weights, tmp_path / "pytorch_model.bin")
        assert outcome(tmp_path) == "refused", (seed, name)


def test_mutated_configurations(tmp_path: Path) -> None:
    """Any value replaced by any other: nothing is built that the weights do not bear out."""
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    strange: list[Any] = [
        0, -1, 1, 2**31, 2**62, 2**64, 0.5, 1e308, float("nan"), float("-inf"), True, None, "", "512", "x" * 5000,
        [], {}, [1] * 100, {"class_path": "os.system"}, "2024-01-01", 3, 1e-9,
    ]  # fmt: skip
    outcomes = set()
    for seed in range(200):
        chance = random.Random(seed)
        document = sections()
        section = document[chance.choice(list(document))]
        target, key = chance.choice(
            [
                (section, "class_path"),
                (section, "init_args"),
                *((section["init_args"], k) for k in section["init_args"]),
            ]
        )
        target[key] = chance.choice(strange)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
        outcomes.add(outcome(tmp_path))
    assert "refused" in outcomes
