"""Arrays and feature files: taken as they come, or refused in one clear line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tts_infer.errors import FileError, InputError, InputTypeError
from tts_infer.inputs import as_audio, as_features, read_features

MEL = torch.randn(1, 100, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "given",
    [MEL, MEL[0], MEL.numpy(), MEL[0].numpy(), MEL.double(), MEL[0].double().numpy()],
    ids=["batch", "single", "numpy batch", "numpy single", "float64", "numpy float64"],
)
def test_accepted_features(given: Any) -> None:
    tensor = as_features(given, 100)
    assert tensor.dtype == torch.float32 and torch.equal(tensor, MEL)


def test_non_contiguous_and_half_precision() -> None:
    assert torch.equal(as_features(MEL.transpose(1, 2).contiguous().transpose(1, 2), 100), MEL)
    assert torch.equal(as_features(MEL.numpy()[:, ::-1].copy()[:, ::-1], 100), MEL)
    assert torch.allclose(as_features(MEL.half(), 100), MEL, atol=2e-3)  # float16 holds 3 digits


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (torch.zeros(1, 80, 5), InputError, r"shape \(1, 80, 5\); .* takes 100 mel bins; use one trained on"),
        (torch.zeros(1, 5, 100), InputError, r"this one is \(L, n_mels\): transpose its last two axes"),
        (torch.zeros(5), InputError, r"shape \(5,\); expected \(B, 100, L\) or \(100, L\)"),
        (torch.zeros(1, 1, 100, 5), InputError, r"shape \(1, 1, 100, 5\)"),
        (torch.zeros(1, 100, 0), InputError, r"mel is empty: shape \(1, 100, 0\)"),
        (torch.zeros(0, 100, 5), InputError, "mel is empty"),
        (torch.full((1, 100, 5), float("nan")), InputError, "holds 500 NaN or infinite values of 500"),
        (torch.full((1, 100, 5), -float("inf")), InputError, "holds 500 NaN or infinite"),
        (torch.zeros(1, 100, 5, dtype=torch.long), InputTypeError, "dtype torch.int64; expected a floating-point"),
        (torch.zeros(1, 100, 5, dtype=torch.cfloat), InputTypeError, "dtype torch.complex64"),
        (np.zeros((100, 5), dtype=bool), InputTypeError, "dtype torch.bool"),
        (np.array([None]), InputTypeError, "mel is a ndarray; expected a torch tensor or a numpy array of floats"),
        ([[0.0]], InputTypeError, "mel is a list; expected"),
    ],
)
def test_refused_features(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        as_features(given, 100)
    assert "\n" not in str(caught.value)


def test_a_sum_that_overflows_is_not_taken_for_infinite_values() -> None:
    large = torch.full((1, 100, 5), 3e38)
    assert torch.equal(as_features(large, 100), large)


def test_audio() -> None:
    wave = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_audio(wave), wave)
    assert as_audio(wave[0].numpy()).shape == (1, 500)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros(9, dtype=np.int16), InputTypeError, "torch.int16; .*divide 16-bit samples by 32768"),
        (torch.zeros(0), InputError, "audio is empty"),
        (torch.zeros(1, 2, 9), InputError, "expected .B, T. or .T,., one channel"),
        (torch.tensor([0.0, float("nan")]), InputError, "holds 1 NaN or infinite values of 2"),
    ],
)
def test_refused_audio(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_audio(given)


def test_feature_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MEL.numpy())
    np.savez(tmp_path / "b.npz", mel=MEL.numpy(), other=np.zeros(3))
    save_file({"anything": MEL}, tmp_path / "c.safetensors")
    torch.save(MEL, tmp_path / "d.pt")
    torch.save({"mel": MEL, "id": 7}, tmp_path / "e.pt")
    for name in ("a.npy", "b.npz", "c.safetensors", "d.pt", "e.pt"):
        assert torch.equal(as_features(read_features(tmp_path / name), 100), MEL), name


class Harmful:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    np.save(tmp_path / "a.npy", np.array([Harmful(trace)]), allow_pickle=True)
    np.savez(tmp_path / "b.npz", np.array([Harmful(trace)]))
    torch.save(Harmful(trace), tmp_path / "c.pt")
    (tmp_path / "d.pt").write_bytes(pickle.dumps(Harmful(trace)))
    (tmp_path / "e.npy").write_bytes(pickle.dumps(Harmful(trace)))
    for name in ("a.npy", "b.npz", "c.pt", "d.pt", "e.npy"):
        with pytest.raises(FileError, match="cannot read .* as features") as caught:
            read_features(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_other_feature_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(FileError, match=r"holds 2 entries \(a, b\); name one of them 'mel'"):
        read_features(tmp_path / "two.npz")
    with pytest.raises(FileError, match="no such file"):
        read_features(tmp_path / "missing.npy")
    with pytest.raises(FileError, match="is no feature file; allowed: .npy, .npz, .safetensors, .pt"):
        read_features(tmp_path / "mel.txt")
    for name in ("text.npy", "text.npz", "text.safetensors", "text.pt"):
        (tmp_path / name).write_bytes(b"not an array at all")
        with pytest.raises(FileError, match="cannot read"):
            read_features(tmp_path / name)
