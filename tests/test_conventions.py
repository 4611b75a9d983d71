"""Mel conventions: names, exact conversions, and the check that tells a wrong mel from a right one."""

from __future__ import annotations

import math
import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import tts_infer
from benchmarks.conventions import VOCODERS, analysis, right_mels, smooth, tensor, wrong_mels
from benchmarks.sounds import speech
from tts_infer.cli import main
from tts_infer.config import MelConfig
from tts_infer.dsp import harmonics
from tts_infer.dsp.conventions import CONVENTIONS, convention_name, convert_mel, recognised
from tts_infer.dsp.mel_statistics import LEAST_FRAMES
from tts_infer.dsp.mismatch import ConventionCheck, MelConventionWarning
from tts_infer.errors import ConfigError, InputError, InputTypeError
from tts_infer.vocoders.checkpoint import ASSETS

EXAMPLES = Path(__file__).parent.parent / "examples"
OWN = CONVENTIONS["vocos-24k"]


@pytest.fixture(scope="module")
def mel(speech: torch.Tensor) -> torch.Tensor:
    return tts_infer.LogMel(OWN)(speech)


def test_every_preset_has_a_named_convention() -> None:
    for preset in tts_infer.known_vocoders().values():
        assert preset.mel is None or convention_name(preset.mel) in CONVENTIONS, preset.name


def test_a_convention_without_a_name() -> None:
    assert convention_name(MelConfig(n_mels=77)) is None


def test_what_a_config_does_not_state_comes_from_the_known_convention() -> None:
    stated = {"sample_rate": 22050, "n_mels": 80, "f_max": 8000.0, "mel_scale": "slaney", "norm": "slaney"}
    config = MelConfig(**stated, padding="same")  # type: ignore[arg-type]
    assert recognised(config, stated).log_floor == 1e-5
    assert recognised(replace(config, log_floor=1e-9), [*stated, "log_floor"]).log_floor == 1e-9
    assert recognised(MelConfig(n_mels=77), ["n_mels"]) == MelConfig(n_mels=77)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ASSETS / tts_infer.DEFAULT_VOCODER, tmp_path / "copy")
    return tmp_path / "copy"


def test_convention_of_load_vocoder(folder: Path) -> None:
    assert tts_infer.load_vocoder(folder, device="cpu", check=False).mel_config.log_floor == 1e-7
    loaded = tts_infer.load_vocoder(folder, device="cpu", check=False, convention="f5-24k")
    assert loaded.mel_config == CONVENTIONS["f5-24k"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["feature_extractor"]["init_args"] |= {"n_mels": 100}
    with pytest.raises(ConfigError, match="is 24000, but .* is known with 22050"):
        tts_infer.load_vocoder(folder, device="cpu", check=False, convention="hifigan-22k")
    with pytest.raises(ConfigError, match="of 'vocos-mini-24khz' has another mel convention than hifigan-22k"):
        tts_infer.load_vocoder(device="cpu", check=False, convention="hifigan-22k")
    same = tts_infer.load_vocoder(device="cpu", check=False, convention="vocos-24k")
    assert same.mel_config == CONVENTIONS["vocos-24k"]
    with pytest.raises(ConfigError, match="mel convention is 'vocos'; allowed: vocos-24k, f5-24k"):
        tts_infer.load_vocoder(folder, device="cpu", check=False, convention="vocos")


@pytest.mark.parametrize(
    ("unit", "make"),
    [
        ("ln", lambda x: x),
        ("log2", lambda x: x / math.log(2)),
        ("log10", lambda x: x / math.log(10)),
        ("decibels", lambda x: x * 20 / math.log(10)),
        ("x0.1", lambda x: x * 0.1),
        ("linear", torch.exp),
        (tts_infer.MelUnit(scale=2.5, offset=-1.0), lambda x: (x + 1) / 2.5),
        ("f5-24k", lambda x: x),
        (replace(OWN, log_floor=1e-10), lambda x: x),
    ],
)
def test_conversions_are_exact(unit: Any, make: Any, mel: torch.Tensor) -> None:
    # float32 has 7 digits, and logarithms reach 16: 1e-5 are a few steps of rounding
    assert torch.allclose(convert_mel(make(mel), from_=unit, to=OWN), mel, atol=1e-5)


def test_conversions_keep_the_log_floor() -> None:
    low = np.full((100, 5), -40.0, np.float32)
    assert convert_mel(low, from_="ln").unique().tolist() == pytest.approx([math.log(1e-7)])
    assert convert_mel(low, from_="ln", to="f5-24k").unique().tolist() == pytest.approx([math.log(1e-5)])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"from_": "bigvgan-24k-100"}, InputError, "differ in mel_scale, norm, padding.* by tts_infer.LogMel"),
        ({"from_": "log11"}, ConfigError, "from_ is 'log11'; allowed: ln, log2"),
        ({"from_": "ln", "to": "log10"}, ConfigError, "mel convention is 'log10'"),
    ],
)
def test_refused_conversions(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        convert_mel(torch.zeros(100, 5), **given)
    with pytest.raises(InputTypeError, match="dtype torch.int64"):
        convert_mel(torch.zeros(100, 5, dtype=torch.long), from_="ln")


@pytest.mark.parametrize("name", VOCODERS)
def test_right_mels_are_not_suspected(name: str) -> None:
    config = CONVENTIONS[name]
    clips = list(speech([EXAMPLES], 2, config.sample_rate, seed=5))
    check = ConventionCheck(config)
    alarms = [(kind, check(tensor(mel))) for kind, mel in right_mels(clips, config, np.random.default_rng(6))]
    assert len(alarms) == 50
    assert [alarm for alarm in alarms if alarm[1] is not None] == []


@pytest.mark.parametrize("name", VOCODERS)
def test_wrong_mels_are_found(name: str) -> None:
    config = CONVENTIONS[name]
    clips = [tts_infer.read_audio(path, config.sample_rate).samples for path in sorted(EXAMPLES.glob("*.wav"))]
    check = ConventionCheck(config)
    for kind, (_, make) in wrong_mels(config).items():
        assert all(check(tensor(make(clip))) for clip in clips), kind


@pytest.mark.parametrize("pair", [("vocos-24k", "bigvgan-24k-100"), ("hifigan-22k", "bigvgan-22k-80")])
def test_harmonics_are_even_by_the_right_filterbank(pair: tuple[str, str]) -> None:
    own, other = (CONVENTIONS[name] for name in pair)
    time = torch.arange(2 * own.sample_rate) / own.sample_rate
    phase = 2 * math.pi * (180 * time + 12 * torch.sin(2 * math.pi * time))  # a voice from 105 to 255 Hz
    voice = sum(torch.sin(n * phase) / n for n in range(1, 30)) * 0.1
    for made, read, sign in ((own, other, -1), (other, own, 1)):
        frames = tts_infer.LogMel(made)(torch.as_tensor(voice)[None])[0].numpy()
        (found,) = harmonics.preference(frames, read if sign < 0 else own, (made if sign < 0 else other,))
        assert found > 0, (made.mel_scale, read.mel_scale)


@pytest.mark.parametrize(
    ("make", "kind", "remedy"),
    [
        (lambda m: m / math.log(10), "log10", "from_='log10'"),
        (lambda m: m * 20 / math.log(10), "decibels", "from_='decibels'"),
        (lambda m: m * 0.1, "scaled", "from_='x0.1'"),
        (lambda m: (m - m.mean()) / m.std(), "normalised", "MelUnit(scale, offset)"),
        (lambda m: (m - m.min()) / (m.max() - m.min()), "unit-range", "MelUnit(scale, offset)"),
        (lambda m: m.exp() / 10, "linear", "from_='linear'"),
        (lambda m: torch.cat([m, m - 12], 2), "floor", "from_='ln'"),
    ],
)
def test_the_warning_names_the_kind_and_the_remedy(make: Any, kind: str, remedy: str, mel: torch.Tensor) -> None:
    found = ConventionCheck(OWN)(make(mel))
    assert found is not None
    assert (found.code, found.fields["kind"]) == (f"mel-looks-{kind}", kind)
    assert remedy in str(found) and "vocos-24k" in str(found)
    assert str(found) == found.text.format(**found.fields) and len(str(found)) < 300 and "\n" not in str(found)


def test_the_remedy_helps(mel: torch.Tensor) -> None:
    wrong = mel / math.log(10)
    assert ConventionCheck(OWN)(wrong) is not None
    assert ConventionCheck(OWN)(convert_mel(wrong, from_="log10", to=OWN)) is None


def test_powers_belong_to_a_convention_of_powers(speech: torch.Tensor) -> None:
    config = replace(OWN, power=2, log_floor=1e-10)
    mel = tts_infer.LogMel(config)(speech)
    assert ConventionCheck(config)(mel) is None
    assert ConventionCheck(OWN)(mel) is not None


def test_short_mels_are_judged_by_their_range_alone(mel: torch.Tensor) -> None:
    check, short = ConventionCheck(OWN), mel[..., 50 : 50 + LEAST_FRAMES - 1]
    assert check(short / math.log(10)) is None
    assert check(short * 20 / math.log(10) - 40) is not None
    assert check(mel[..., :0]) is None


def test_a_mel_with_gradients_is_judged_as_one_without(mel: torch.Tensor) -> None:
    check = ConventionCheck(OWN)
    assert check(mel.clone().requires_grad_()) is None
    assert check((mel * 0.1).requires_grad_()) is not None


def test_warnings_survive_processes(mel: torch.Tensor) -> None:
    found = ConventionCheck(OWN)(mel * 0.1)
    copy = pickle.loads(pickle.dumps(found))
    assert (str(copy), copy.code, copy.fields) == (str(found), "mel-looks-scaled", found.fields)  # type: ignore[union-attr]


def test_one_warning_a_call(vocoder: tts_infer.Vocoder, mel: torch.Tensor) -> None:
    wrong = mel[..., :100] * 0.1
    calls: list[Any] = [
        lambda: vocoder.decode(wrong),
        lambda: vocoder.decode(wrong.repeat(3, 1, 1)),
        lambda: vocoder.decode([wrong[0], wrong[0, :, :60]]),
        lambda: vocoder.synthesize(wrong),
        lambda: list(vocoder.stream().decode(wrong.split(7, 2))),
        lambda: list(vocoder.stream().decode(wrong[..., :60].split(7, 2))),
    ]
    for i, call in enumerate(calls):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            call()
        assert [type(w.message) for w in said] == [MelConventionWarning], i
        assert said[0].filename == __file__  # where the caller sees it


def test_streams_check_their_first_second_only(vocoder: tts_infer.Vocoder, mel: torch.Tensor) -> None:
    stream = vocoder.stream()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.push(mel[..., :95])
        stream.push(mel[..., :95] * 0.1)
    stream.reset()
    with pytest.warns(MelConventionWarning):
        stream.push(mel[..., :95] * 0.1)


def test_memory_of_pieces_may_be_used_again(vocoder: tts_infer.Vocoder, mel: torch.Tensor) -> None:
    """The wrong pieces are overwritten by right ones before the first second is complete."""
    stream, piece = vocoder.stream(), torch.empty(1, 100, 10)
    for i in range(0, 90, 10):
        piece.copy_(mel[..., i : i + 10] * 0.1)
        stream.push(piece)
        piece.copy_(mel[..., i : i + 10])
    with pytest.warns(MelConventionWarning):
        stream.push(mel[..., 90:95] * 0.1)


def test_silencing(vocoder: tts_infer.Vocoder, mel: torch.Tensor) -> None:
    wrong = mel[..., :100] * 0.1
    quiet = tts_infer.load_vocoder(device="cpu", refine=0, check=False, check_convention=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vocoder.decode(wrong, check_convention=False)
        vocoder.decode([wrong[0]], check_convention=False)
        quiet.decode(wrong)
        list(quiet.stream().decode([wrong]))


def test_the_command_line_warns_in_one_line(
    mel: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", mel[..., :100].numpy() / math.log(10))
    arguments = ["decode", str(tmp_path / "a.npy"), "-o", str(tmp_path / "a.wav"), "--device", "cpu", "--refine", "0"]
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert said.startswith("tts-infer: warning: mel looks like a log10 or a normalised mel") and said.count("\n") == 1
    assert main([*arguments, "--no-convention-check"]) == 0
    assert capsys.readouterr().err == ""


def test_calm_mels_elsewhere_were_not_mapped() -> None:
    """Noise that breathes, smoothed over time, has as little fluctuation and range as a mel in -1..1."""
    config, rng, t = CONVENTIONS["hifigan-22k"], np.random.default_rng(0), np.arange(22050) / 22050
    check, analyse = ConventionCheck(config), analysis(config)
    for _ in range(40):
        noise = rng.standard_normal(len(t)) * 10 ** rng.uniform(-4, -0.5)
        coloured = np.convolve(noise, [1, -rng.uniform(-0.95, 0.95)], "same")
        breath = 1 + rng.uniform(0.1, 0.6) * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t)
        assert check(torch.from_numpy(smooth(analyse(coloured * breath), 9))[None]) is None
