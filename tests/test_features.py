"""Arrays and feature files: taken as they come, or refused in one clear line."""

from __future__ import annotations

import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tts_infer.errors import FileError, InputError, InputTypeError
from tts_infer.io.feature_files import open_features, read_features, read_mel
from tts_infer.io.features import as_audio, as_features, as_ragged

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


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", np.longdouble])
def test_every_float_of_numpy(dtype: Any) -> None:
    given = MEL.numpy().astype(dtype)
    assert torch.allclose(as_features(given, 100), MEL, atol=2e-3)  # float16 holds 3 digits


def test_read_only_arrays_give_no_warning() -> None:
    given = MEL.numpy().copy()
    given.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(as_features(given, 100), MEL)


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
        (np.zeros((100, 5), dtype=bool), InputTypeError, "dtype bool; expected a floating-point type"),
        (np.array([None]), InputTypeError, "mel has dtype object; expected a floating-point type"),
        (np.array([["a"]]), InputTypeError, "mel has dtype <U1; expected a floating-point type"),
        (np.zeros((100, 5), dtype=[("a", "f4")]), InputTypeError, "expected a floating-point type"),
        (np.full((100, 5), 1e300), InputError, "holds 500 NaN or infinite values of 500"),
        ([[0.0]], InputTypeError, "mel is a list; expected a torch tensor or a numpy array of floats"),
        (torch.full((100, 5), 32.5), InputError, "mel reaches 32.5, .* one in decibels by ln.10. / 20"),
    ],
)
def test_refused_features(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        as_features(given, 100)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*(beta state|prototype stage)")
def test_tensors_that_are_not_dense() -> None:
    mel = torch.zeros(100, 5)
    nested = torch.nested.nested_tensor([mel, mel[:, :3]])
    for given in (mel.to_sparse(), mel.to_sparse_csr(), mel.to_mkldnn(), mel.to("meta"), nested):
        with pytest.raises(InputTypeError, match=r"mel is a sparse, nested or meta tensor; .* \.to_dense\(\)"):
            as_features(given, 100)
    if packed := getattr(torch, "float4_e2m1fn_x2", None):
        with pytest.raises(InputTypeError, match="mel has dtype torch.float4_e2m1fn_x2; expected float32, or"):
            as_features(torch.empty(100, 5, dtype=packed), 100)


def test_the_lowest_values() -> None:
    """Decibels pass, for the check of conventions to name them; what no logarithm gives does not."""
    low = torch.full((1, 100, 5), -299.0)
    assert torch.equal(as_features(low, 100), low)
    for value in (-301.0, -1e9, -3e38):
        low[0, 7, 3] = value
        with pytest.raises(InputError, match="far below any log floor: clip magnitudes") as caught:
            as_features(low, 100)
        assert caught.value.code == "mel-low"


@pytest.mark.parametrize("shape", [(24000, 2), (24000, 1), (9, 8), (48, 32), (5000, 100), (2000, 1999)])
def test_frames_times_channels_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="looks like .frames, channels.; .* audio.T .* audio.mean.1.") as caught:
        as_audio(torch.zeros(shape))
    assert caught.value.code == "audio-frames-channels"


def test_batches_are_not_taken_for_channels() -> None:
    for shape in ((2, 24000), (40, 33), (32, 32), (3, 2400)):
        assert as_audio(torch.zeros(shape)).shape == shape
    assert as_audio(torch.zeros(3, 1), piece=True).shape == (3, 1)
    with pytest.raises(InputError, match="frames, channels"):
        as_audio(torch.zeros(1024, 2), piece=True)


def test_one_sample_is_refused() -> None:
    for shape in ((1,), (1, 1)):
        with pytest.raises(InputError, match="which is one sample; expected .T,. or .B, T."):
            as_audio(torch.zeros(shape))
    assert as_audio(torch.zeros(1), piece=True).shape == (1, 1)


@pytest.mark.parametrize("value", [1500.0, -1500.0, -32768.0, -1e20])
def test_samples_far_beyond_full_scale_are_refused(value: float) -> None:
    wave = torch.zeros(4800)
    wave[100] = value
    with pytest.raises(InputError, match="full scale is 1.0"):
        as_audio(wave)


def test_audio() -> None:
    wave = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_audio(wave), wave)
    assert as_audio(wave[0].numpy()).shape == (1, 500)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros(9, dtype=np.int16), InputTypeError, "dtype int16; .*divide 16-bit samples by 32768"),
        (torch.zeros(0), InputError, "audio is empty"),
        (torch.zeros(1, 2, 9), InputError, "expected .B, T. or .T,., one channel"),
        (torch.tensor([0.0, float("nan")]), InputError, "holds 1 NaN or infinite values of 2"),
    ],
)
def test_refused_audio(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_audio(given)


@pytest.mark.parametrize("lengths", [[3, 2], (3, np.int64(2)), np.array([3, 2]), torch.tensor([3, 2]), range(3, 1, -1)])
def test_lengths(lengths: Any) -> None:
    batch, counts = as_ragged(torch.ones(2, 4, 3), lengths, 4)
    assert counts == [3, 2] and batch[1].sum() == 8


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([None, 1], InputError, "lengths are .None, 1.; each must be a whole number from 1 to 3 frames"),
        (["a", "b"], InputError, "lengths are .'a', 'b'.; each must"),
        ([True, 1], InputError, "lengths are .True, 1.; each must"),
        (np.array([True, True]), InputError, "lengths are .True, True.; each must"),
        ([[1], [1]], InputError, "each must be a whole number"),
        ({1, 2}, InputTypeError, "lengths is a set; expected a list, an array or a tensor of whole numbers"),
        (torch.tensor(2), InputTypeError, "lengths is a int; expected a list"),
    ],
)
def test_refused_lengths(lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_ragged(torch.ones(2, 4, 3), lengths, 4)


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


def contents() -> list[tuple[str, Any]]:
    """Files of features, whole."""
    return [
        ("a.npy", lambda path: np.save(path, MEL.numpy())),
        ("a.npz", lambda path: np.savez(path, mel=MEL.numpy())),
        ("packed.npz", lambda path: np.savez_compressed(path, mel=MEL.numpy())),
        ("a.safetensors", lambda path: save_file({"mel": MEL}, path)),
        ("a.pt", lambda path: torch.save({"mel": MEL, "id": [7]}, path)),
        ("old.pt", lambda path: torch.save(MEL, path, _use_new_zipfile_serialization=False)),
    ]


@pytest.mark.parametrize(("name", "save"), contents(), ids=lambda value: value if isinstance(value, str) else "")
def test_damaged_files_are_one_line(name: str, save: Any, tmp_path: Path) -> None:
    """Cut anywhere, or with bytes changed: features, or a refusal, and nothing else."""
    path, chance = tmp_path / name, random.Random(0)
    save(path)
    whole = path.read_bytes()
    for trial in range(150):
        damaged = bytearray(whole)
        if trial % 3:
            for _ in range(trial % 7):
                damaged[chance.randrange(min(len(whole), 1500))] = chance.randrange(128)
        else:
            damaged = damaged[: chance.randrange(len(whole)) if trial else 0]
        path.write_bytes(damaged)
        try:
            message = str(path) if isinstance(read_features(path), torch.Tensor) else ""
        except FileError as error:
            message = str(error)
        assert str(path) in message and "\n" not in message


@pytest.mark.parametrize(
    "content", [[MEL], 7, None, "mel", {"mel": [0.0]}, {"mel": None}, MEL[0].to_sparse()], ids=repr
)
def test_what_is_no_array_in_a_file(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FileError, match=r"a\.pt: mel is a .*; expected a"):
        read_features(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [np.array(["a"]), np.zeros(3, dtype=[("a", "f4")]), np.zeros((100, 5), np.int32)])
def test_arrays_of_other_kinds_in_a_file(content: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(FileError, match=r"a\.npy: mel has dtype .*; expected a floating-point type"):
        read_features(tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_float_of_torch_in_a_file(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    given = MEL.to(dtype)
    path = tmp_path / f"a{suffix}"
    torch.save(given, path) if suffix == ".pt" else save_file({"mel": given}, path)
    assert torch.equal(read_features(path), given.float())


def test_what_a_file_holds_decides(tmp_path: Path) -> None:
    """An archive by the name of an array; and an array is read at once, or where it lies."""
    np.savez(tmp_path / "a.npz", mel=MEL.numpy())
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    assert torch.equal(read_features(tmp_path / "a.npy"), MEL)
    assert torch.equal(torch.as_tensor(open_features(tmp_path / "a.npy")), MEL)
    np.save(tmp_path / "b.npy", MEL.numpy())
    mapped = open_features(tmp_path / "b.npy")
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, MEL.numpy())
    (tmp_path / "c.npy").write_bytes(b"")
    with pytest.raises(FileError, match=r"cannot read .*c\.npy as features"):
        open_features(tmp_path / "c.npy")


def test_files_checked_for_a_vocoder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MEL[0].numpy().astype(">f4"))
    assert torch.equal(read_mel(tmp_path / "a.npy", 100), MEL)
    np.save(tmp_path / "b.npy", MEL[0].T.numpy())
    with pytest.raises(InputError, match=r"b\.npy: mel has shape \(7, 100\); .*transpose its last two axes"):
        read_mel(tmp_path / "b.npy", 100)
    np.save(tmp_path / "c.npy", np.float32(1))
    with pytest.raises(InputError, match=r"c\.npy: mel has shape \(\); expected"):
        read_mel(tmp_path / "c.npy", 100)
    np.save(tmp_path / "d.npy", MEL.repeat(2, 1, 1).numpy())
    with pytest.raises(InputError, match=r"d\.npy holds a batch of 2; expected one mel a file"):
        read_mel(tmp_path / "d.npy", 100)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_whole_numbers_that_were_not_divided(bits: int) -> None:
    wave = torch.sin(torch.arange(500)) * 0.5 * 2 ** (bits - 1)
    with pytest.raises(InputError, match=r"audio reaches .*, but full scale is 1.0: divide .* by 2 \*\* \(N - 1\)"):
        as_audio(wave)
    assert as_audio(wave / 2 ** (bits - 1)).abs().max() <= 0.5


def test_pieces_may_be_empty() -> None:
    assert as_features(torch.zeros(2, 100, 0), 100, piece=True).shape == (2, 100, 0)
    assert as_audio(torch.zeros(0), piece=True).shape == (1, 0)
    for shape in ((0, 100, 5), (0, 100, 0)):
        with pytest.raises(InputError, match="mel is empty"):
            as_features(torch.zeros(shape), 100, piece=True)
    with pytest.raises(InputError, match="audio is empty"):
        as_audio(torch.zeros(0, 5), piece=True)
