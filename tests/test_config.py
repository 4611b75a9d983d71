"""Configuration is data: what is not in the tables is refused in one line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tts_infer.config import MelConfig, VocoderPreset, build, known_vocoder, known_vocoders
from tts_infer.documents import load_json, load_yaml
from tts_infer.errors import ConfigError
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.family import read_config

OFFICIAL: dict[str, Any] = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"},
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {"input_channels": 100, "dim": 512, "intermediate_dim": 1536, "num_layers": 8},
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": "center"},
    },
}


def write(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    document = yaml.safe_load(yaml.safe_dump(OFFICIAL))
    (document[section] if key == "class_path" else document[section]["init_args"])[key] = value
    return document


def read(path: Path, preset: VocoderPreset | None = None) -> Any:
    return read_config(path, FAMILIES.values(), preset)[1]


def test_official_layout(tmp_path: Path) -> None:
    config = read(write(tmp_path / "config.yaml", OFFICIAL))
    assert config.mel == MelConfig()
    assert (config.backbone.dim, config.backbone.num_layers, config.head.padding) == (512, 8, "center")


def test_keys_of_third_party_forks(tmp_path: Path) -> None:
    document = changed("feature_extractor", "mel_scale", "slaney")
    document["feature_extractor"]["init_args"].update(f_min=0, f_max=8000, norm="slaney")
    mel = read(write(tmp_path / "config.yaml", document)).mel
    assert (mel.mel_scale, mel.norm, mel.f_min, mel.f_max) == ("slaney", "slaney", 0.0, 8000.0)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("head", "class_path", "os.system", r"head: class_path 'os.system' is not supported; allowed: 'vocos.heads"),
        ("head", "class_path", "vocos.heads.FourierHead", "'vocos.heads.FourierHead' is not supported"),
        ("backbone", "depth", 8, "backbone: unknown key 'depth'; allowed: adanorm_num_embeddings, dim"),
        ("backbone", "dim", "512", "backbone: dim is '512'; allowed: int"),
        ("backbone", "dim", 512.0, "backbone: dim is 512.0; allowed: int"),
        ("backbone", "dim", True, "backbone: dim is True; allowed: int"),
        ("backbone", "dim", 0, "dim is 0; it must be greater than 0"),
        ("backbone", "adanorm_num_embeddings", 0, "adanorm_num_embeddings is 0; it must be greater than 0"),
        ("backbone", "dw_kernel_size", 4, "dw_kernel_size is 4; it must be odd and at least 1"),
        ("head", "padding", "valid", "padding is 'valid'; allowed: 'center' or 'same'"),
        ("feature_extractor", "norm", "l1", "norm is 'l1'; allowed: 'slaney' or null"),
        ("feature_extractor", "n_mels", 80, "n_mels is 80 but backbone.input_channels is 100; they must be equal"),
        ("head", "hop_length", 300, "hop_length is 256 but head.hop_length is 300"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, section: str, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(write(tmp_path / "config.yaml", changed(section, key, value)))
    assert "\n" not in str(caught.value) and "config.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected a mapping of names to values, got list"),
        ("a: [1", "is not valid YAML"),
        ("head: !!python/object/apply:os.system [exit]\n", "is not valid YAML"),
        ("head: {}\n", "missing key 'backbone', 'feature_extractor'"),
        ("head: {}\nhead: {}\n", "is not valid YAML: key 'head' is given twice"),
        ("head: {padding: same, padding: center}\n", "is not valid YAML: key 'padding' is given twice"),
        ("a: 2024-13-45\n", "is not valid YAML: month must be in 1..12"),
        ("a: !!int abc\n", "is not valid YAML: invalid literal"),
        ("a: !!timestamp x\n", "is not valid YAML"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        read(tmp_path / "config.yaml")


def test_known_convention_completes_the_file_and_must_agree(tmp_path: Path) -> None:
    known = VocoderPreset("a", "hub", "", "MIT", MelConfig(log_floor=1e-5), repo_id="o/a")
    path = write(tmp_path / "config.yaml", OFFICIAL)
    assert read(path, known).mel.log_floor == 1e-5
    other = VocoderPreset("b", "hub", "", "MIT", MelConfig(padding="same"), repo_id="o/b")
    with pytest.raises(ConfigError, match="padding is 'center', but vocoder 'b' is known with 'same'"):
        read(path, other)


def test_known_vocoders() -> None:
    known = known_vocoders()
    assert next(iter(known)) == "vocos-mini-24khz"
    assert known["vocos-mel-24khz"].repo_id == "charactr/vocos-mel-24khz"
    assert known["vocos-mel-22khz"].mel == MelConfig(
        sample_rate=22050, n_mels=80, f_max=8000.0, mel_scale="slaney", norm="slaney", padding="same", log_floor=1e-5
    )
    assert all(name == entry.name and known_vocoder(name) == entry for name, entry in known.items())
    assert known_vocoder("charactr/vocos-mel-24khz") == known["vocos-mel-24khz"]
    assert known_vocoder("../vocoders/vocos-mel-24khz") is None and known_vocoder("") is None


def test_a_known_vocoder_is_embedded_or_on_the_hub() -> None:
    entry = {"name": "x", "source": "hub", "description": "", "license": "MIT", "mel": {}}
    with pytest.raises(ConfigError, match="repo_id goes with source 'hub'"):
        build(VocoderPreset, entry, "x.yaml")


def test_decibels_per_unit() -> None:
    assert MelConfig().db_per_unit == pytest.approx(8.6859, abs=1e-4)  # 20 / ln 10
    assert MelConfig(power=2).db_per_unit == pytest.approx(4.3429, abs=1e-4)


def test_messages_stay_short(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijkl"))
    )
    loaded = load_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="n_mels is .*; allowed: int") as caught:
        build(MelConfig, {"n_mels": loaded["l"]}, "c.yaml")
    assert len(str(caught.value)) < 300
    with pytest.raises(ConfigError, match="unknown key 'x0.*'.* and 997 more") as caught:
        build(MelConfig, {f"x{i}" * 50: 1 for i in range(1000)}, "c.yaml")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("log_floor: 1e-7", 1e-7),
        ("log_floor: 1E-7", 1e-7),
        ("f_max: 12e3", 12000.0),
        ("f_max: +1.2e+4", 12000.0),
        ("power: 1.0", 1),
        ("power: 2.0", 2),
        ("f_min: 0", 0.0),
        ("norm: null", None),
        ("norm: ~", None),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, line: str, expected: object) -> None:
    (tmp_path / "c.yaml").write_text(line)
    key = line.partition(":")[0]
    value = getattr(build(MelConfig, load_yaml(tmp_path / "c.yaml"), "c.yaml"), key)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("power: 1.5", "power is 1.5; allowed: 1 or 2"),
        ("power: true", "power is True; allowed: 1 or 2"),
        ("log_floor: .nan", "log_floor is nan; allowed: float"),
        ("log_floor: .inf", "log_floor is inf; allowed: float"),
        ("log_floor: 1e999", "log_floor is inf; allowed: float"),
        ("n_mels: 9223372036854775808", r"n_mels is 9223372036854775808; allowed: int below 2\*\*63"),
        (f"f_max: 1{'0' * 400}", "is not valid YAML: a number has 401 digits"),
        (f"n_mels: 0x{'9' * 100000}", "is not valid YAML: a number has 100002 digits"),
    ],
)
def test_numbers_of_no_use(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(line)
    with pytest.raises(ConfigError, match=message) as caught:
        build(MelConfig, load_yaml(tmp_path / "c.yaml"), "c.yaml")
    assert len(str(caught.value)) < 300


EXPLODING = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EXPLODING, "expands to more than 100000 values"),
        ("a: &a [*a]", "expands to more than"),
        ("a: &a {b: *a}", "expands to more than"),
        ("x: " + "[" * 20000 + "]" * 20000, "is not valid YAML"),
        ("a: " + "x" * 1_000_001, "is larger than 1000000 bytes"),
    ],
)  # fmt: skip
def test_files_that_grow(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(tmp_path / "c.yaml")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_json_is_read_as_strictly(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n\t"log_floor": 1e-5, "n_mels": 80\n}')
    assert build(MelConfig, load_json(path), "c") == MelConfig(log_floor=1e-5, n_mels=80)
    for text, message in (
        ('{"a": 1, "a": 2}', "key 'a' is given twice"),
        (f'{{"a": {"1" * 41}}}', "a number has 41 digits"),
        (" " * 1_000_001, "larger than 1000000 bytes"),
        ("[1]", "expected a mapping"),
        ("{a: 1}", "is not valid JSON"),
        ("[" * 100000, "is not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_json(path)


def test_a_name_that_is_none() -> None:
    with pytest.raises(ConfigError, match="cannot read .*null byte"):
        load_yaml(Path("a\0.yaml"))
