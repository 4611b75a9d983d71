"""Old public names work for one release, and say what they are now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tts_infer


@pytest.mark.parametrize("old", sorted(tts_infer._RENAMED))
def test_old_names_of_the_package(old: str) -> None:
    new = tts_infer._RENAMED[old]
    with pytest.warns(DeprecationWarning, match=f"tts_infer.{old} is now {new}"):
        assert getattr(tts_infer, old) is getattr(tts_infer, new)
    assert new in tts_infer.__all__


def test_other_names_are_still_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tts_infer.nonsense


def test_engine_is_executor(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    np.save(tmp_path / "mel.npy", np.zeros((100, 9), np.float32))
    with pytest.warns(DeprecationWarning, match="engine is now executor"):
        report = tts_infer.synthesize_batch(vocoder, tmp_path / "mel.npy", tmp_path / "out", engine="local")
    assert list(report.outputs) == ["mel.wav"]


def test_xrt_is_rtfx(vocoder: tts_infer.Vocoder) -> None:
    result = vocoder.synthesize(torch.zeros(1, 100, 9))
    with pytest.warns(DeprecationWarning, match=r"Synthesis\.xrt is now rtfx"):
        assert result.xrt == result.rtfx
