"""What several tests need: the official package, real speech, the embedded vocoder."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

import tts_infer
from tts_infer.engines.reference import import_vocos

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def official() -> ModuleType:
    """The official `vocos` package: the reference of every parity test."""
    return import_vocos()


@pytest.fixture(scope="session")
def speech() -> torch.Tensor:
    """A clip at 24 kHz. Shape: (1, T)"""
    return torch.from_numpy(tts_infer.read_audio(ROOT / "examples" / "english.wav", 24000).samples)[None]


@pytest.fixture(scope="session")
def vocoder() -> tts_infer.Vocoder:
    """The embedded vocoder on the CPU: its network alone, which can be compared with others."""
    return tts_infer.load_vocoder(device="cpu", refine=0)
