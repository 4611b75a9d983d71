"""Made-up checkpoints and configurations: a vocoder, or an error of the package in one short line.

`make fuzz` runs thousands of examples (FUZZ_EXAMPLES); `make test` some dozens of each.
"""

from __future__ import annotations

import copy
import json
import os
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

import tts_infer
from tests.gan import BIGVGAN, official_weights
from tests.test_fuzz import ODD, outcome
from tests.test_presets import DOCUMENTS, filled, section
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.family import read_document

pytestmark = pytest.mark.usefixtures("_small_numbers_count")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=EXAMPLES < 1000,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

LUXTTS = {
    "feature_extractor": section(
        "vocos.feature_extractors.MelSpectrogramFeatures", n_fft=256, hop_length=64, n_mels=12
    ),
    "backbone": section("vocos.models.VocosBackbone", input_channels=12, dim=128, intermediate_dim=40, num_layers=2),
    "head": section("vocos.heads.ISTFTHead", dim=128, n_fft=256, hop_length=64, padding="center"),
    "upsampler": section("linacodec.vocoder.upsampler_block.UpSamplerBlock", in_channels=128, upsample_factors=[2, 1]),
    "head_48k": section("vocos.heads.ISTFTHead", dim=128, n_fft=256, hop_length=64, padding="center"),
}
CONFIGS: dict[str, dict[str, Any]] = {**DOCUMENTS, "luxtts-48khz": LUXTTS, "bigvgan": BIGVGAN}
NAMES = st.sampled_from(list(CONFIGS))
FOLDER = Path(tempfile.mkdtemp(prefix="tts-infer-fuzz-"))


def _weights(name: str) -> dict[str, Tensor]:
    if name == "bigvgan":
        return official_weights(BIGVGAN)
    family, config = read_document(CONFIGS[name], FAMILIES.values(), None, "")
    return filled(family.build(config).state_dict())


WEIGHTS = {name: _weights(name) for name in CONFIGS}
VALUES = st.one_of(
    ODD.filter(lambda one: type(one) in (type(None), bool, int, float, str, list, dict)),
    st.sampled_from(
        [0, -1, 1, 2, 3, 7, 8192, 2**31, 2**63, 10**30, 0.5, "center", "1e-5", "24000", [], [[]], [1, 2], {}]
    ),
).map(copy.deepcopy)  # `documents` changes lists and dicts that it drew before


def load(text: str | bytes | None, weights: bytes | dict[str, Any], kind: str = "config.yaml", **given: Any) -> Any:
    """What loading these files gives; None if it is refused as it should be."""
    for path in FOLDER.iterdir():
        path.unlink()
    if text is not None:
        (FOLDER / kind).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    path = FOLDER / "model.safetensors"
    path.write_bytes(weights) if isinstance(weights, bytes) else save_file(weights, path)
    return outcome(lambda: tts_infer.load_vocoder(path, device="cpu", check=False, **given), most=500)


def require_audio(vocoder: Any) -> None:
    """A vocoder that was loaded decodes."""
    if vocoder is not None:
        chosen: dict[str, Any] = {one.name: 0 for one in vocoder.features.conditions}
        audio = outcome(lambda: vocoder.decode(torch.zeros(1, vocoder.n_mels, 3), check_convention=False, **chosen))
        assert audio is None or audio.shape == (1, vocoder.n_samples(3))


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, Any]:
    """A configuration of which some values are others, some keys are missing, and some are new."""
    name = draw(NAMES)
    document: Any = copy.deepcopy(CONFIGS[name])
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        holder, key = draw(st.sampled_from(places)) if places else (None, None)
        change = draw(st.sampled_from(["value"] * 4 + ["missing", "new", "all"]))
        if change == "all":
            document = draw(VALUES)
        elif holder is None:
            continue
        elif change == "value":
            holder[key] = draw(VALUES)
        elif change == "missing":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=4))] = draw(VALUES)
    return name, document


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value within a document: what holds it, and where."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in items:
        yield value, key
        yield from _places(inner)


@fuzz
@given(documents())
@example(("bigvgan", {**BIGVGAN, "fmax": 1}))  # filters without a frequency
def test_configurations(made: tuple[str, Any]) -> None:
    name, document = made
    if name == "bigvgan":
        require_audio(load(json.dumps(document), WEIGHTS[name], "config.json"))
    else:
        require_audio(load(yaml.safe_dump(document), WEIGHTS[name]))


@fuzz
@given(NAMES, st.data())
def test_texts_of_configurations(name: str, data: st.DataObject) -> None:
    kind = "config.json" if name == "bigvgan" else "config.yaml"
    text = json.dumps(CONFIGS[name]) if name == "bigvgan" else yaml.safe_dump(CONFIGS[name])
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 12)))
        content[start:end] = data.draw(st.binary(max_size=6) | st.sampled_from(
            [b"&a ", b"*a", b"!!python/name:os.system ", b"{", b"[", b": ", b"\n", b"- ", b"? ", b"\t", b"<<: ", b"1e9"]
        ))  # fmt: skip
    require_audio(load(bytes(content), WEIGHTS[name], kind))


class Weights(dict[str, Tensor]):
    """Tensors by name, which a failing example shows by their shapes."""

    def __repr__(self) -> str:
        return str({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in self.items()})


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, dict[str, Tensor]]:
    """Weights of which some have other names, shapes, types or values, or are missing."""
    name = draw(NAMES)
    made = dict(WEIGHTS[name])
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(made)))
        tensor = made.pop(key)
        change = draw(st.sampled_from(["missing", "few", "name", "prefix", "shape", "type", "value", "norm", "all"]))
        if change == "few":
            made = dict(list(made.items())[::7]) | {key: tensor}
        elif change == "name":
            made[draw(st.text(max_size=6) | st.just("x" * 400))] = tensor
        elif change == "prefix":
            start = draw(st.sampled_from(["module.", "a.b.", "ema.", "discriminator.", "state_dict."]))
            made = {start + one: value for one, value in made.items()} | {start + key: tensor}
        elif change == "shape":
            shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 24, 1000]), max_size=4))
            made[key] = torch.zeros(shape) if torch.Size(shape).numel() < 10**6 else tensor.flatten()
        elif change == "type":
            made[key] = tensor.to(draw(st.sampled_from([torch.int8, torch.bool, torch.float16, torch.complex64])))
        elif change == "value":
            made[key] = tensor + draw(st.sampled_from([float("nan"), float("inf"), 3e38, 0.0]))
        elif change == "norm":
            made |= {f"{key}_g": tensor.flatten()[:1].clone(), f"{key}_v": tensor}
        elif change == "all":
            made = {one: value.reshape(1, *value.shape) for one, value in made.items()} | {key: tensor}
    return name, Weights(made)


@fuzz
@given(tensors(), st.booleans())
@example(("bigvgan", Weights({**WEIGHTS["bigvgan"], "conv_pre.weight_g": torch.zeros(0)})), False)
def test_names_and_shapes(made: tuple[str, dict[str, Tensor]], alone: bool) -> None:
    name, weights = made
    if name == "bigvgan":
        load(json.dumps(BIGVGAN), weights, "config.json")
    elif alone and name in DOCUMENTS:
        load(None, weights, config=name)
    else:
        load(yaml.safe_dump(CONFIGS[name]), weights)


@fuzz
@given(st.sampled_from(list(DOCUMENTS)), st.data())
def test_headers_of_safetensors(name: str, data: st.DataObject) -> None:
    content = save(WEIGHTS[name])
    size = struct.unpack("<Q", content[:8])[0]
    values, length = content[8 + size :], None
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    for _ in range(data.draw(st.integers(1, 2))):
        keys = sorted(key for key in header if isinstance(header[key], dict))
        entry = header[data.draw(st.sampled_from(keys))]
        part = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "other", "new", "name", "size", "cut"]))
        if part == "dtype":
            entry[part] = data.draw(st.sampled_from(["I32", "U32", "F64", "BF16", "F8_E4M3", "X", "", None, 3]))
        elif part == "shape" and data.draw(st.booleans()):
            entry[part] = [1, *entry[part]] if isinstance(entry.get(part), list) else []
        elif part in ("shape", "data_offsets"):
            entry[part] = data.draw(
                st.lists(st.sampled_from([0, 1, 24, -1, 2**40, 2**64, 1.5, "a"]), max_size=3) | VALUES
            )
        elif part == "other":
            entry[data.draw(st.text(max_size=3))] = data.draw(VALUES)
        elif part == "new":
            header[data.draw(st.sampled_from(["__metadata__", "", "a", "x" * 2000]))] = data.draw(VALUES) or dict(entry)
        elif part == "name":
            header[data.draw(st.text(max_size=5))] = header.pop(data.draw(st.sampled_from(keys)))
        elif part == "size":
            length = data.draw(st.sampled_from([0, 1, 2**31, 2**63, 2**64 - 1]) | st.integers(0, 10**5))
        else:
            values = values[: data.draw(st.integers(0, len(values)))]
    text = json.dumps(header).encode()
    load(yaml.safe_dump(CONFIGS[name]), struct.pack("<Q", len(text) if length is None else length) + text + values)


@fuzz
@given(st.sampled_from(list(DOCUMENTS)), st.data())
def test_bytes_of_weights(name: str, data: st.DataObject) -> None:
    content = bytearray(save(WEIGHTS[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        end = data.draw(st.sampled_from([8, 600, 3000, len(content)]))
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(97, 122) | st.integers(0, 255))
    load(yaml.safe_dump(CONFIGS[name]), bytes(content[: data.draw(st.sampled_from([len(content)] * 6 + [9, 5000]))]))


UNIT = tts_infer.MelUnit
MEL = torch.zeros(1, 100, 3)
CALLS: dict[str, Callable[[Any], Any]] = {
    "load_vocoder": lambda odd: tts_infer.load_vocoder(odd, device="cpu", check=False),
    "load_vocoder config": lambda odd: tts_infer.load_vocoder(config=odd, device="cpu", check=False),
    "load_vocoder convention": lambda odd: tts_infer.load_vocoder(convention=odd, device="cpu", check=False),
    "load_vocoder engine": lambda odd: tts_infer.load_vocoder(engine=odd, device="cpu", check=False),
    "load_vocoder istft": lambda odd: tts_infer.load_vocoder(istft=odd, device="cpu", check=False),
    "load_vocoder dtype": lambda odd: tts_infer.load_vocoder(dtype=odd, device="cpu", check=False),
    "load_vocoder placement": lambda odd: tts_infer.load_vocoder(placement=odd, device="cpu", check=False),
    "describe_vocoder": lambda odd: tts_infer.describe_vocoder(odd),
    "describe_vocoder config": lambda odd: tts_infer.describe_vocoder(tts_infer.DEFAULT_VOCODER, config=odd),
    "convention_name": lambda odd: tts_infer.convention_name(odd),
    "convert_mel": lambda odd: tts_infer.convert_mel(odd, from_="ln"),
    "convert_mel from_": lambda odd: tts_infer.convert_mel(MEL, from_=odd),
    "convert_mel to": lambda odd: tts_infer.convert_mel(MEL, from_="ln", to=odd),
    "MelUnit": lambda odd: tts_infer.convert_mel(MEL, from_=UNIT(odd, odd)),
    "ConventionCheck": lambda odd: tts_infer.ConventionCheck(odd),
    "ConventionCheck of": lambda odd: tts_infer.ConventionCheck(tts_infer.MelConfig())(odd),
}
ARGUMENTS = [
    None, True, 7, -1.5, float("nan"), "", "a\0b", "x" * 5000, b"abc", [1], {"a": 1}, object(), 1j, Path("no"), {1, 2},
    torch.float32, torch.zeros(2), torch.zeros(3, dtype=torch.int64).numpy(), ("a",),
]  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_odd_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts_infer.vocoders.checkpoint.may_be_on_hub", lambda name: False)  # nothing is downloaded
    for odd in ARGUMENTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome(lambda odd=odd: CALLS[name](odd))  # type: ignore[misc]
