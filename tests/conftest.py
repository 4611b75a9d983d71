"""What several tests need: the official package, real speech, the embedded vocoder, the launched page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch

import tts_infer
from tts_infer.engines.traced import TracedEngine
from tts_infer.evaluation import MEASURES, Evaluation, Interval, Row, System
from tts_infer.evaluation.intervals import mean_interval
from tts_infer.runtime import workers
from tts_infer.vocoders.reference import import_vocos

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio_client import Client

ROOT = Path(__file__).parent.parent

# All measures but those of large networks and of a compiler, which take seconds.
QUICK_MEASURES = [one.key for one in MEASURES if one.package not in ("speechmos", "visqol-python", "Resemblyzer")]

# What the product keeps in the user's cache folder, the tests keep in one of their own. Processes inherit it.
_CACHE = tempfile.TemporaryDirectory(prefix="tts-infer-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


@pytest.fixture(autouse=True, scope="session")
def _what_computes_does_not_depend_on_the_machine() -> None:
    """Where another library is faster is the machine's affair; `test_onnxruntime` and `test_short` have one chosen.

    Whether it is busy, too, and that changes from one moment to the next: `test_workers` has it busy.
    """
    TracedEngine.automatic = TracedEngine.shortens = False
    workers._others.are_busy = lambda: False  # type: ignore[method-assign]


@pytest.fixture
def _small_numbers_count() -> None:
    """OpenVINO lets the processor take the smallest numbers for zero, in the thread that used it."""
    torch.set_flush_denormal(False)


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
def echo() -> Callable[..., System]:
    """Makes a system that copies samples without a mel and multiplies them by a gain."""

    def make(rate: int = 24000, label: str = "echo", gain: float = 1.0) -> System:
        config = tts_infer.MelConfig(rate, n_fft=512, hop_length=128, n_mels=20)
        return System(label, config, lambda audio: audio[:, None], lambda mel: gain * mel[:, 0])

    return make


@pytest.fixture(scope="session")
def made_up() -> Callable[..., Evaluation]:
    """Makes an evaluation from PESQ values per system, one for each file. All other measures are undefined."""

    def make(**values: Sequence[float | None]) -> Evaluation:
        rows, means = [], {}
        empty: dict[str, float | None] = dict.fromkeys((one.key for one in MEASURES), None)
        for label, pesqs in values.items():
            rows += [Row(f"dir/<{i}>.wav", label, 1.0, 10.0, empty | {"pesq_wb": v}) for i, v in enumerate(pesqs)]
            means[label] = dict.fromkeys(empty, None) | {"pesq_wb": mean_interval(pesqs)}
        _, *others = means
        difference = dict.fromkeys(empty, None) | {"pesq_wb": Interval(-0.5, -0.7, -0.3, 2)}
        differences = dict.fromkeys(others, difference)
        return Evaluation(tuple(means), tuple(rows), means, differences, {}, {}, (), "nobody")

    return make


@pytest.fixture(scope="session")
def demo() -> Iterator[Blocks]:
    """The page, launched once for all tests."""
    import app

    demo = app.build_demo(example=False)
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    yield demo
    demo.close()


@pytest.fixture(scope="session")
def client(demo: Blocks) -> Client:
    """A program that calls the page."""
    from gradio_client import Client

    return Client(demo.local_url, verbose=False, httpx_kwargs={"timeout": 60})  # a busy machine is no mistake
