"""The official package imports whatever became of torchaudio's native library, and takes our weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tts_infer
from tts_infer.config import MelConfig
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.reference import OfficialVocos
from tts_infer.vocoders.vocos import VocoderConfig

ROOT = Path(__file__).parent.parent


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own: imports leave traces."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_vocos_imports_where_the_native_library_does_not_load() -> None:
    """A torchaudio that fails half-way, as with a torch of another build, is loaded again without native code."""
    code = """
import sys, types
broken = types.ModuleType("torchaudio._extension")
def __getattr__(name):
    raise AttributeError(name) if name.startswith("__") else OSError("libc10_cuda.so: cannot open shared object file")
broken.__getattr__ = __getattr__
sys.modules["torchaudio._extension"] = broken
from tts_infer.vocoders.reference import import_vocos
print(import_vocos().Vocos.__name__, sys.modules["torchaudio._extension"]._IS_ALIGN_AVAILABLE)
"""
    done = run(code)
    assert (done.returncode, done.stdout) == (0, "Vocos False\n"), done.stderr


def test_missing_package_is_named() -> None:
    code = """
import sys
sys.modules["vocos"] = None
from tts_infer.vocoders.reference import import_vocos
try:
    import_vocos()
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(code).stdout == "vocos\n"


def test_official_modules_take_our_weights(vocoder: tts_infer.Vocoder) -> None:
    model = load_model(resolve(tts_infer.DEFAULT_VOCODER))
    official = OfficialVocos(model.config).eval()
    keys = official.load_state_dict(model.state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert {key.rpartition(".")[2] for key in keys.missing_keys} == {"window", "fb"}  # constants
    mel = vocoder.mel(torch.sin(torch.arange(6000.0)) * 0.1)
    with torch.inference_mode():
        expected = official(mel)
    # float32 sums in another order
    torch.testing.assert_close(vocoder.decode(mel), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_foreign_mel_convention_is_refused() -> None:
    with pytest.raises(tts_infer.ConfigError, match="HTK"):
        OfficialVocos(VocoderConfig(mel=MelConfig(mel_scale="slaney")))
