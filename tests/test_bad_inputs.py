"""Whatever one input raises is its reason, and the others of the batch go on."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import tts_infer


def damaged_lzma(path: Path) -> None:
    raw = io.BytesIO()
    np.save(raw, np.random.default_rng(0).uniform(-6, 0, (100, 50)).astype(np.float32))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as out:
        out.writestr("mel.npy", raw.getvalue())
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)


def much(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out, out.open("mel.npy", "w", force_zip64=True) as entry:
        for _ in range(33):
            entry.write(bytes(2**26))


def second_array(path: Path) -> None:
    """A good mel, and an array beside it that would take all memory if it were read."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        arrays: dict[str, Any] = {"mel": np.full((100, 20), -5.0, np.float32), "more": np.zeros(2**28, np.uint8)}
        for name, array in arrays.items():
            with out.open(f"{name}.npy", "w") as entry:
                np.save(entry, array)


BAD: dict[str, tuple[Any, str]] = {
    "lzma.npz": (damaged_lzma, "as features: Corrupt input data"),
    "slow.wav": (lambda path: soundfile.write(path, np.zeros(60000, "i2"), 1), "audio of 1 Hz cannot be resampled"),
    "low.npy": (lambda path: np.save(path, np.full((100, 50), -1e38, np.float32)), "far below any log floor"),
    "spread.pt": (lambda path: torch.save({"mel": torch.zeros(1).expand(100, 10**10)}, path), "few values spread over"),
}


def test_every_reason_is_told(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    np.save(tmp_path / "good.npy", np.full((100, 50), -5.0, np.float32))
    for name, (make, _) in BAD.items():
        make(tmp_path / name)
    report = tts_infer.synthesize_batch(vocoder, tmp_path, tmp_path.with_name(f"{tmp_path.name}-out"))
    assert list(report.outputs) == ["good.wav"]
    for name, (_, reason) in BAD.items():
        assert reason in report.failed[Path(name).with_suffix(".wav").name]


def test_memory_that_one_file_lacks(
    tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file here is too long for this machine, so the decode itself says so for one of three."""
    decode = type(vocoder).decode

    def limited(self: Any, features: Any, *arguments: Any, **named: Any) -> Any:
        if any(mel.shape[-1] == 52 for mel in features):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return decode(self, features, *arguments, **named)

    monkeypatch.setattr(type(vocoder), "decode", limited)
    for frames in (51, 52, 53):
        np.save(tmp_path / f"{frames}.npy", np.full((100, frames), -5.0, np.float32))
    report = tts_infer.synthesize_batch(vocoder, tmp_path, tmp_path.with_name(f"{tmp_path.name}-out"))
    assert sorted(report.outputs) == ["51.wav", "53.wav"]
    assert report.failed["52.wav"].startswith("there is not enough memory for it; decode it alone")


@pytest.mark.slow  # packs 2 GiB
def test_small_archives_that_unpack_to_much(tmp_path: Path) -> None:
    much(tmp_path / "much.npz")
    with pytest.raises(tts_infer.FileError, match="it unpacks to 2214592512 bytes, 2147483648 are allowed"):
        tts_infer.read_features(tmp_path / "much.npz")
    second_array(tmp_path / "two.npz")
    assert tts_infer.read_mel(tmp_path / "two.npz", 100).shape == (1, 100, 20)
