"""The nodes for ComfyUI, imported and run as ComfyUI does it. Source: comfyanonymous/ComfyUI nodes.py, execution.py."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tts_infer
from tests.conftest import ROOT
from tests.emulated_device import emulated
from tests.gan import BIGVGAN, official_weights, save
from tts_infer.stages import relative_error


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The folder in `custom_nodes`, imported under its path, in which dots are replaced."""
    path = tmp_path_factory.mktemp("custom_nodes") / "tts-infer"
    shutil.copytree(ROOT / "integrations" / "comfyui", path)
    name = str(path).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, path / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for one in [one for one in sys.modules if one.startswith(name)]:
        del sys.modules[one]


def run(pack: Any, node: str, **inputs: Any) -> Any:
    """What a node gives, after the checks that ComfyUI makes before and after it runs one."""
    kind = pack.NODE_CLASS_MAPPINGS[node]
    declared = kind.INPUT_TYPES()
    known = {**declared["required"], **declared.get("optional", {})}
    assert declared["required"].keys() <= inputs.keys() <= known.keys()
    for name, value in inputs.items():
        choices = known[name][0]
        assert not isinstance(choices, list) or value in choices
    with torch.inference_mode():
        given = getattr(kind(), kind.FUNCTION)(**inputs)
    assert isinstance(given, tuple) and len(given) == len(kind.RETURN_TYPES)
    return given[0]


@pytest.fixture(scope="module")
def loaded(pack: Any) -> tts_infer.Vocoder:
    vocoder: tts_infer.Vocoder = run(pack, "TTSInferLoadVocoder", vocoder="vocos-mini-24khz", device="cpu")
    return vocoder


def audio(waveform: Tensor, sample_rate: int = 24000) -> dict[str, Any]:
    return {"waveform": waveform, "sample_rate": sample_rate}


def test_every_node_is_complete(pack: Any) -> None:
    assert pack.NODE_CLASS_MAPPINGS.keys() == pack.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for kind in pack.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(kind, kind.FUNCTION)) and kind.CATEGORY.startswith("audio/")
    table = (ROOT / "integrations" / "comfyui" / "README.md").read_text()
    assert all(f"| {name} |" in table for name in pack.NODE_DISPLAY_NAME_MAPPINGS.values())


def test_a_mel_of_audio_is_decoded(pack: Any, loaded: tts_infer.Vocoder, speech: Tensor, tmp_path: Path) -> None:
    mel = run(pack, "TTSInferAudioToMel", vocoder=loaded, audio=audio(speech[None]))
    assert torch.equal(mel, loaded.mel(speech))
    decoded = run(pack, "TTSInferDecodeMel", vocoder=loaded, mel=mel)
    assert torch.equal(decoded["waveform"], loaded.decode(mel)[:, None]) and decoded["sample_rate"] == 24000
    np.save(tmp_path / "mel.npy", mel[0].numpy())
    assert torch.equal(run(pack, "TTSInferLoadMel", path=str(tmp_path / "mel.npy")), mel)
    kind = pack.NODE_CLASS_MAPPINGS["TTSInferLoadMel"]
    assert kind.IS_CHANGED("mel.npy") != kind.IS_CHANGED("mel.npy")  # never from ComfyUI's cache


def test_audio_is_copied(pack: Any, loaded: tts_infer.Vocoder, speech: Tensor) -> None:
    """Two items of three channels, each of another level, at another rate."""
    levels = torch.tensor([[1.0, 0.5, 0.25], [0.8, 0.4, 0.2]])
    given = levels[:, :, None] * speech[0, 24000:48000:2]
    copied = run(pack, "TTSInferCopyAudio", vocoder=loaded, audio=audio(given, 12000))
    assert copied["waveform"].shape[:2] == (2, 3) and copied["sample_rate"] == 24000
    for item, channel in [(0, 2), (1, 0)]:
        clip = tts_infer.resample(tts_infer.AudioClip(given[item, channel].numpy(), 12000), 24000)
        want = loaded(torch.from_numpy(clip.samples)[None])
        # batches of other sizes are other matrix products, and passes of refinement enlarge the difference
        assert relative_error(copied["waveform"][item, channel][None], want) < 1e-3


def test_a_text_is_spoken(pack: Any, loaded: tts_infer.Vocoder) -> None:
    pytest.importorskip("hibari")
    given = {"text": "Hello there.", "voice": "heart", "speed": 1.5, "seed": 3, "device": "cpu"}
    for vocoder in (None, loaded):
        spoken = run(pack, "TTSInferSpeak", **given, vocoder=vocoder)
        want = tts_infer.speak("Hello there.", vocoder=vocoder, speed=1.5, seed=3, device="cpu")
        assert torch.equal(spoken["waveform"], want.audio[None]) and spoken["sample_rate"] == 24000
    with pytest.raises(tts_infer.VoiceNotFoundError, match="'nobody' is unknown"):
        run(pack, "TTSInferSpeak", **given, recording="nobody")


def test_other_vocoders(pack: Any, tmp_path: Path) -> None:
    folder = save(tmp_path / "bigvgan", BIGVGAN, official_weights(BIGVGAN))
    node = {"vocoder": "vocos-mini-24khz", "device": "cpu"}
    vocoder = run(pack, "TTSInferLoadVocoder", **node, path=str(folder))
    assert vocoder.n_mels == BIGVGAN["num_mels"]
    with pytest.raises(tts_infer.VocoderNotFoundError, match="no such folder or file: some/where"):
        run(pack, "TTSInferLoadVocoder", **node, path="some/where")  # not a Hub id, which would be asked for


def test_nothing_is_asked_of_the_network(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    node = {"vocoder": "vocos-mel-24khz", "device": "cpu"}
    with pytest.raises(tts_infer.VocoderNotFoundError, match="vocos-mel-24khz is not on this machine; turn on"):
        run(pack, "TTSInferLoadVocoder", **node)
    run(pack, "TTSInferLoadVocoder", vocoder="vocos-mini-24khz", device="cpu")


def test_devices(pack: Any, speech: Tensor) -> None:
    """Audio and mels are on the CPU wherever they were computed."""
    choices = pack.NODE_CLASS_MAPPINGS["TTSInferLoadVocoder"].INPUT_TYPES()["required"]["device"][0]
    assert choices == ["auto", "cpu", "cuda", "mps"]
    for missing in {"cuda", "mps"} - {name.partition(":")[0] for name in tts_infer.available_devices()}:
        with pytest.raises(tts_infer.PlacementError, match=f"device '{missing}.*' is not available; here: cpu"):
            run(pack, "TTSInferLoadVocoder", vocoder="vocos-mini-24khz", device=missing)
    # named methods: networks magnify what a mel by FFT and one by products differ by
    how: dict[str, Any] = {"mel": "matmul", "istft": "matmul", "refine": 0}
    here = tts_infer.load_vocoder(device="cpu", **how)
    exact = run(pack, "TTSInferCopyAudio", vocoder=here, audio=audio(speech[None]))["waveform"]
    with emulated():
        there = tts_infer.load_vocoder(device="emu", **how)
        copied = run(pack, "TTSInferCopyAudio", vocoder=there, audio=audio(speech[None]))["waveform"]
        mel = run(pack, "TTSInferAudioToMel", vocoder=there, audio=audio(speech[None]))
        assert copied.device == mel.device == torch.device("cpu")
    assert relative_error(copied[0], exact[0]) < 1e-4  # by other operators
