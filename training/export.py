"""Trained weights -> a directory in the layout of the official checkpoints, which vocos and tts-infer load strictly."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from training.discriminators import Discriminators
from training.generator import Generator
from tts_infer.io.writer import whole_file
from tts_infer.vocoders.checkpoint import CONFIG_FILE, WEIGHT_FILES
from tts_infer.vocoders.vocos import EXTENSION, Extension, VocoderConfig, Vocos, VocosFamily


def export(generator: Generator, config: VocoderConfig, directory: Path) -> None:
    """Write config.yaml and model.safetensors: weights in float16 (0.004 dB, half the size), constants in float32.

    Each file is replaced whole.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocos = Vocos(config)
    vocos.backbone.load_state_dict(generator.backbone.state_dict())
    vocos.head.out.load_state_dict(generator.head.out.state_dict())
    weights = {name: value.half().contiguous() for name, value in vocos.state_dict().items()}
    weights |= {name: constant.float().contiguous() for name, constant in VocosFamily().constants(vocos).items()}
    with whole_file(directory / WEIGHT_FILES[0]) as part:
        part.write_bytes(save(weights, metadata={"format": "pt"}))
    with whole_file(directory / CONFIG_FILE) as part:
        part.write_text(yaml.safe_dump(official_config(config), sort_keys=False))


def export_discriminators(discriminators: Discriminators, file: Path) -> None:
    """Write what `start_discriminators` of a recipe reads, in float16."""
    with whole_file(file) as part:
        part.write_bytes(save({name: value.half().contiguous() for name, value in discriminators.state_dict().items()}))


def official_config(config: VocoderConfig) -> dict[str, Any]:
    """The document that `tts_infer.vocoders.family.read_config` and `vocos.Vocos.from_hparams` read."""
    mel, backbone, head = config.mel, config.backbone, config.head
    extension = {EXTENSION: asdict(Extension(config.range_null))} if config.range_null else {}
    return {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": {k: getattr(mel, k) for k in ("sample_rate", "n_fft", "hop_length", "n_mels", "padding")},
        },
        "backbone": {
            "class_path": "vocos.models.VocosBackbone",
            "init_args": {k: getattr(backbone, k) for k in ("input_channels", "dim", "intermediate_dim", "num_layers")},
        },
        "head": {
            "class_path": "vocos.heads.ISTFTHead",
            "init_args": {k: getattr(head, k) for k in ("dim", "n_fft", "hop_length", "padding")},
        },
        **extension,
    }
