"""The nodes. AUDIO is what ComfyUI means by it: {"waveform": (B, channels, T), "sample_rate": Hz}, on the CPU.

MEL is a tensor of (B, n_mels, L), and TTS_VOCODER a `tts_infer.Vocoder`. ComfyUI reads the names in capitals.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

import tts_infer

Audio = dict[str, Any]
Inputs = dict[str, dict[str, tuple[Any, ...]]]

DEVICES = ["auto", "cpu", "cuda", "mps"]


class Node:
    """What all nodes share."""

    CATEGORY = "audio/tts-infer"
    FUNCTION = "run"


class LoadVocoder(Node):
    """A vocoder by name, or from a folder or file. Without `download`, no request leaves this machine."""

    RETURN_TYPES = ("TTS_VOCODER",)
    RETURN_NAMES = ("vocoder",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        names = [one["name"] for one in tts_infer.list_vocoders()]
        return {
            "required": {"vocoder": (names, {"default": tts_infer.DEFAULT_VOCODER}), "device": (DEVICES,)},
            "optional": {
                "path": ("STRING", {"default": "", "tooltip": "a folder or a file of weights, in place of the name"}),
                "download": ("BOOLEAN", {"default": False, "tooltip": "fetch it from the Hugging Face Hub if needed"}),
            },
        }

    def run(self, vocoder: str, device: str, path: str = "", download: bool = False) -> tuple[tts_infer.Vocoder]:
        if path and not os.path.exists(path):
            raise tts_infer.VocoderNotFoundError("no such folder or file: {path}", code="node-no-path", path=path)
        where = {one["name"]: one["status"] for one in tts_infer.list_vocoders()}
        if not path and not download and where.get(vocoder) == "not cached":
            raise tts_infer.VocoderNotFoundError(
                "{name} is not on this machine; turn on download, or give the path of its folder",
                code="node-not-here",
                name=vocoder,
            )
        return (tts_infer.load_vocoder(path or vocoder, device=device),)


class LoadMel(Node):
    """A mel from a file: .npy, .npz, .safetensors or .pt."""

    RETURN_TYPES = ("MEL",)
    RETURN_NAMES = ("mel",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"path": ("STRING", {"default": "mel.npy"})}}

    @classmethod
    def IS_CHANGED(cls, path: str) -> float:  # noqa: N802
        """Not a number, which differs from itself: the file is read at every run."""
        return float("nan")

    def run(self, path: str) -> tuple[Tensor]:
        mel = tts_infer.read_features(path)
        return (mel if mel.ndim == 3 else mel[None],)


class OfAudio(Node):
    """What takes a vocoder and audio."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"vocoder": ("TTS_VOCODER",), "audio": ("AUDIO",)}}


class AudioToMel(OfAudio):
    """The mel of audio, in the convention of a vocoder. Each channel is an item of its own."""

    RETURN_TYPES = ("MEL",)
    RETURN_NAMES = ("mel",)

    def run(self, vocoder: tts_infer.Vocoder, audio: Audio) -> tuple[Tensor]:
        return (_on_cpu(vocoder.mel(_signals(audio, vocoder.sample_rate))),)


class CopyAudio(OfAudio):
    """Audio through the mel of a vocoder and back, each channel by itself."""

    RETURN_TYPES = ("AUDIO",)

    def run(self, vocoder: tts_infer.Vocoder, audio: Audio) -> tuple[Audio]:
        copied = vocoder(_signals(audio, vocoder.sample_rate))
        return (_audio(copied, audio["waveform"].shape[1], vocoder.sample_rate),)


class DecodeMel(Node):
    """A mel to audio of one channel."""

    RETURN_TYPES = ("AUDIO",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"vocoder": ("TTS_VOCODER",), "mel": ("MEL",)}}

    def run(self, vocoder: tts_infer.Vocoder, mel: Tensor) -> tuple[Audio]:
        return (_audio(vocoder.decode(mel), 1, vocoder.sample_rate),)


class Speak(Node):
    """A text in a synthetic voice. With a vocoder, that decodes the voice's mel."""

    RETURN_TYPES = ("AUDIO",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        voices = [one["name"] for one in tts_infer.list_voices() if not one["from_recording"]]
        return {
            "required": {
                "text": ("STRING", {"multiline": True, "default": "A vocoder turns a mel into a waveform."}),
                "voice": (voices,),
                "speed": ("FLOAT", {"default": 1.0, "min": 0.25, "max": 4.0, "step": 0.05}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1, "control_after_generate": True}),
                "device": (DEVICES,),
            },
            "optional": {
                "vocoder": ("TTS_VOCODER",),
                "recording": (
                    "STRING",
                    {"default": "", "tooltip": "f5-tts/PATH of one, in place of the voice"},
                ),
            },
        }

    def run(
        self, text: str, voice: str, speed: float, seed: int, device: str, vocoder: Any = None, recording: str = ""
    ) -> tuple[Audio]:
        made = tts_infer.speak(text, recording or voice, vocoder=vocoder, speed=speed, seed=seed, device=device)
        return (_audio(made.audio, 1, made.sample_rate),)


def _signals(audio: Audio, sample_rate: int) -> Tensor:
    """All channels of all items at the rate of a vocoder. Shape: (B, channels, T) -> (B * channels, T')"""
    rate, channels = audio["sample_rate"], audio["waveform"].flatten(0, 1).float().cpu().numpy()
    clips = [tts_infer.resample(tts_infer.AudioClip(one, rate), sample_rate) for one in channels]
    return torch.stack([torch.from_numpy(clip.samples) for clip in clips])


def _audio(signals: Tensor, channels: int, sample_rate: int) -> Audio:
    """What ComfyUI calls AUDIO. Shape: (B * channels, T) -> (B, channels, T)"""
    return {"waveform": _on_cpu(signals).unflatten(0, (-1, channels)), "sample_rate": sample_rate}


def _on_cpu(tensor: Tensor) -> Tensor:
    with tts_infer.device_lock(tensor.device):
        return tensor.cpu()


NODE_CLASS_MAPPINGS = {
    "TTSInferLoadVocoder": LoadVocoder,
    "TTSInferLoadMel": LoadMel,
    "TTSInferAudioToMel": AudioToMel,
    "TTSInferDecodeMel": DecodeMel,
    "TTSInferCopyAudio": CopyAudio,
    "TTSInferSpeak": Speak,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "TTSInferLoadVocoder": "Load Vocoder",
    "TTSInferLoadMel": "Load Mel",
    "TTSInferAudioToMel": "Audio to Mel",
    "TTSInferDecodeMel": "Decode Mel",
    "TTSInferCopyAudio": "Copy Audio through a Vocoder",
    "TTSInferSpeak": "Speak",
}
