"""Buckets: who is decoded with whom, and what each step makes of broken input and a disk that refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.batch import buckets
from tts_infer.batch.buckets import Outcome
from tts_infer.batch.manifest import Item
from tts_infer.config import MelConfig
from tts_infer.runtime.placement import make_placement
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.vocos import VocoderConfig, Vocos

CLIP = Path(__file__).parent.parent / "examples" / "english.wav"


def test_neighbours_in_length_share_a_bucket() -> None:
    sizes = {f"{i}": frames for i, frames in enumerate([10, 2000, 2100, 9000, 12, 11])}
    grouped: dict[int, set[str]] = {}
    for name, bucket in buckets.group(sizes, first=5, limit=4096):
        grouped.setdefault(bucket, set()).add(name)
    assert grouped == {5: {"0", "4", "5"}, 6: {"1"}, 7: {"2"}, 8: {"3"}}


def test_frames_come_from_headers(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    features = vocoder.features
    soundfile.write(tmp_path / "a.wav", np.zeros(48000), 48000)
    np.save(tmp_path / "a.npy", np.zeros((100, 7), dtype=np.float32))
    torch.save(torch.zeros(1, 100, 9), tmp_path / "a.pt")
    (tmp_path / "b.wav").write_text("no audio")
    (tmp_path / "b.npy").write_text("no array")
    names = ("a.wav", "a.npy", "a.pt", "b.wav", "b.npy", "missing.wav", "missing.npy")
    # 24000 samples after resampling are 93.75 hops
    assert [buckets.frames_of(tmp_path / name, features) for name in names] == [93, 7, 9, 0, 0, 0, 0]


def test_the_steps_of_a_bucket(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    np.save(tmp_path / "mel.npy", vocoder.mel(tts_infer.read_audio(CLIP).samples[:9000]).numpy())
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "nan.wav", np.full(9000, np.nan), 24000, subtype="FLOAT")
    sources = (CLIP, tmp_path / "mel.npy", tmp_path / "text.wav", tmp_path / "nan.wav")
    items = [Item(source, Path(f"{i}.wav"), tmp_path) for i, source in enumerate(sources)]
    contents = [buckets.read(item, vocoder.features) for item in items]
    mels = [buckets.to_mel(content, vocoder) for content in contents]
    audios = buckets.decode(mels, vocoder)
    outcomes = [buckets.write(item, audio, 24000, "pcm16") for item, audio in zip(items, audios, strict=True)]
    for outcome in outcomes[:2]:
        path = tmp_path / outcome.name
        assert outcome == Outcome(path.name, soundfile.info(path).duration, path.stat().st_size)
    assert "cannot read" in str(outcomes[2].error) and "NaN" in str(outcomes[3].error)
    assert not (tmp_path / "2.wav").exists() and not (tmp_path / "3.wav").exists()


def test_broken_features_stop_nobody(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    """Their size is told without an error, and reading them says why not, and of which file."""
    np.save(tmp_path / "good.npy", np.zeros((100, 7), dtype=">f4"))
    np.savez(tmp_path / "renamed.npz", np.zeros((100, 5), dtype=np.float32))
    (tmp_path / "renamed.npz").rename(tmp_path / "renamed.npy")
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "point.npy", np.float32(1))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "renamed.npy").read_bytes()[:300])
    torch.save([1.0], tmp_path / "list.pt")
    torch.save(torch.zeros(100, 5).to_sparse(), tmp_path / "sparse.pt")
    soundfile.write(tmp_path / "nan.wav", np.full(9000, np.nan), 24000, subtype="FLOAT")
    read = {}
    for path in tmp_path.iterdir():
        assert buckets.frames_of(path, vocoder.features) >= 0
        read[path.name] = buckets.read(Item(path, Path("a.wav"), tmp_path), vocoder.features)
    assert {name for name, content in read.items() if isinstance(content, torch.Tensor)} == {"good.npy", "renamed.npy"}
    for name, content in read.items():
        assert isinstance(content, torch.Tensor) or (str(tmp_path / name) in content and "\n" not in content)


def test_what_the_system_refuses_to_write(tmp_path: Path) -> None:
    outcome = buckets.write(Item(CLIP, Path("gone/a.wav"), tmp_path), torch.zeros(9), 24000, "pcm16")
    assert outcome.error is None and outcome.seconds is None and "no such folder" in str(outcome.unwritten)


@pytest.mark.parametrize(("samples", "rate", "said"), [(9, 700_000, "sample_rate is 700000"), (0, 24000, "too short")])
def test_what_is_no_audio_file_is_the_error_of_one_file(samples: int, rate: int, said: str, tmp_path: Path) -> None:
    outcome = buckets.write(Item(CLIP, Path("a.flac"), tmp_path), torch.zeros(samples), rate, "pcm16")
    assert outcome.unwritten is None and str(outcome.error).startswith(f"{CLIP}: ") and said in str(outcome.error)
    assert not (tmp_path / "a.flac").exists()


def test_nothing_to_decode_is_no_error(vocoder: tts_infer.Vocoder) -> None:
    assert buckets.decode(["a reason"], vocoder) == ["a reason"]
    assert buckets.to_mel("a reason", vocoder) == "a reason"


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_executors_are_of_one_type(executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'tts-infer[ray]'")
        from tts_infer.batch import ray as ray_executor

        chosen: buckets.Executor = ray_executor.run
    else:
        from tts_infer.batch import local

        chosen = local.run
    assert list(chosen(tts_infer.load_vocoder(device="cpu"), [], "pcm16")) == []


def test_loud_audio_of_which_a_mel_has_no_right_to_be() -> None:
    """Powers of what is far beyond full scale: told of that file, where it stopped all the others."""
    config = VocoderConfig(mel=MelConfig(power=2))
    vocoder = Vocoder(Vocos(config, "fft").eval(), make_placement(device="cpu"), "powers")
    wave = torch.sin(torch.arange(9000) * 0.1)
    assert isinstance(buckets.to_mel(wave, vocoder), torch.Tensor)
    assert "mel reaches" in str(buckets.to_mel(900 * wave, vocoder))
