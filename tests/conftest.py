"""What several tests need: the official package, real speech, the embedded vocoder, the launched page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch

import tts_infer
from tts_infer.engines.reference import import_vocos

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio_client import Client

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


@pytest.fixture(scope="session")
def demo() -> Iterator[Blocks]:
    """The page, launched once for all tests."""
    import app

    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    yield demo
    demo.close()


@pytest.fixture(scope="session")
def client(demo: Blocks) -> Client:
    """A program that calls the page."""
    from gradio_client import Client

    return Client(demo.local_url, verbose=False)
