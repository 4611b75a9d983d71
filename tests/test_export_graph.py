"""Exported files as vocoders: one decode, pieces, batches and streams are those of torch; other files are refused."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tts_infer
from tests.conftest import ROOT
from tests.gan import KINDS, SIZES, official_weights, save
from tests.helpers import small_vocoder
from tts_infer.cli import main
from tts_infer.engines.graphs import MAX_BYTES
from tts_infer.stages import relative_error, wave

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tts-infer[onnx]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'tts-infer[onnx]'")

# Another order of float32 sums; trained networks magnify it, see `Decoder.tolerance`.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tts_infer.export_onnx(small_vocoder(), tmp_path_factory.mktemp("graph") / "small.onnx").path


@pytest.fixture(scope="module")
def made(file: Path) -> Any:
    return onnx.load(file)


def mels(vocoder: tts_infer.Vocoder, frames: int) -> Tensor:
    return 2 * wave(1, vocoder.n_mels, frames) - 5


def agrees(vocoder: tts_infer.Vocoder, graph: tts_infer.Vocoder, frames: int) -> None:
    mel = mels(vocoder, frames)
    whole = vocoder.decode(mel, refine=0, check_convention=False)
    assert relative_error(graph.decode(mel, check_convention=False), whole) <= ROUNDING
    stream = graph.stream()
    pieces = torch.cat(list(stream.decode(mel.split(7, dim=2))), dim=1)
    assert relative_error(pieces, whole) <= ROUNDING
    items = [mel[0], mel[0, :, :9], mel[0, :, :1]]
    ours = vocoder.decode(items, refine=0, check_convention=False)
    for got, expected in zip(graph.decode(items, check_convention=False), ours, strict=True):
        assert got.shape == expected.shape and (not got.numel() or relative_error(got, expected) <= ROUNDING)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocoder = tts_infer.load_vocoder(device="cpu", refine=0, check=False)
    mel = vocoder.mel(tts_infer.read_audio(ROOT / "examples/english.wav", vocoder.sample_rate).samples)
    np.save(tmp_path / "mel.npy", mel.numpy())
    assert main(["export", "vocos-mini-24khz", "-o", str(tmp_path / "v.onnx")]) == 0
    decode = ["decode", str(tmp_path / "mel.npy"), "--engine", "onnxruntime", "--sample-format", "float32"]
    assert main([*decode, "--vocoder", str(tmp_path / "v.onnx"), "-o", str(tmp_path / "out.wav")]) == 0
    assert "graph     cpu             onnxruntime" in capsys.readouterr().out
    audio = tts_infer.read_audio(tmp_path / "out.wav").samples
    assert relative_error(torch.as_tensor(audio).reshape(1, -1), vocoder.decode(mel)) <= ROUNDING
    copied = tts_infer.load_vocoder(tmp_path / "v.onnx")(vocoder.decode(mel))  # its mel is that of the convention
    assert relative_error(copied, vocoder(vocoder.decode(mel))) <= ROUNDING
    assert main([*decode, "-o", str(tmp_path / "own.wav"), "--refine", "0"]) == 0  # an engine for stages of modules
    assert capsys.readouterr().out.count("onnxruntime") == 2


@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.parametrize("refine", [0, 1])
def test_pieces_batches_and_streams(padding: Any, refine: int, tmp_path: Path) -> None:
    vocoder = small_vocoder(padding)
    done = tts_infer.export_onnx(vocoder, tmp_path / "v.onnx", refine=refine)
    vocoder.refine = refine
    graph = tts_infer.load_vocoder(done.path)
    assert graph.hop_length == vocoder.hop_length and graph.mel_config == vocoder.mel_config
    frames = 700  # more than are computed at once
    mel = mels(vocoder, frames)
    whole = vocoder.decode(mel, check_convention=False)
    assert relative_error(graph.decode(mel, check_convention=False), whole) <= ROUNDING
    if not refine:
        agrees(vocoder, graph, 90)
    copy = pickle.loads(pickle.dumps(graph))
    assert torch.equal(copy.decode(mel, check_convention=False), graph.decode(mel, check_convention=False))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS)[:1])
def test_generators(kind: str, tmp_path: Path) -> None:
    config = SIZES | KINDS[kind]
    vocoder = tts_infer.load_vocoder(save(tmp_path, config, official_weights(config)), device="cpu", check=False)
    graph = tts_infer.load_vocoder(tts_infer.export_onnx(vocoder, tmp_path / "v.onnx").path)
    agrees(vocoder, graph, 90)


def test_what_is_asked_for_is_obeyed_or_refused(file: Path) -> None:
    load = tts_infer.load_vocoder
    assert str(load(file, engine="onnxruntime").placement["graph"]) == "cpu/onnxruntime"
    with pytest.raises(tts_infer.PlacementError, match="allowed: auto, onednn"):
        load(file, engine="none")
    with pytest.raises(tts_infer.PlacementError, match="can run no stage"):
        load(file, engine="cuda_graphs")
    with pytest.raises(tts_infer.PlacementError, match="graph is run by onnxruntime only"):
        load(file, placement="graph=cpu/torch")
    with pytest.raises(tts_infer.PlacementError, match="in float32, not in bfloat16; use float32 on 'cpu'"):
        load(file, dtype="bfloat16")
    with pytest.raises(tts_infer.ConfigError, match="another mel convention"):
        load(file, convention="vocos-24k")
    with pytest.raises(tts_infer.ConfigError, match="leave config out"):
        load(file, config="vocos-mel-24khz")
    with pytest.raises(tts_infer.ExportError, match="is a graph already"):
        tts_infer.export_onnx(load(file), file.with_name("again.onnx"))
    with pytest.raises(tts_infer.InputError, match="leave refine at 0"):
        load(file).decode(torch.zeros(1, 40, 5), refine=1)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = tts_infer.export_onnx(small_vocoder(), tmp_path / "s.onnx", layout="sherpa-onnx").path
    with pytest.raises(
        tts_infer.CheckpointError, match=r"takes mels and gives mag, x, y; .* takes mel and gives audio"
    ):
        tts_infer.load_vocoder(path)


def put(key: str, value: str | None) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        others = {one.key: one.value for one in model.metadata_props if one.key != key}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, others | ({} if value is None else {key: value}))

    return change


def kept_in(place: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place

    return change


def after_audio(*nodes: tuple[str, list[str], list[str]]) -> Callable[[Any], None]:
    """Nodes that make audio of "before"; "huge" is a number of values just beyond the allowed memory."""

    def change(model: Any) -> None:
        for node in model.graph.node:
            node.output[:] = ["before" if name == "audio" else name for name in node.output]
        model.graph.node.extend(onnx.helper.make_node(*node) for node in nodes)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([MAX_BYTES // 4 + 1], np.int64), "huge"))

    return change


def loop(model: Any) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", ["a"], ["b"], body=body))


BOMB = after_audio(("ConstantOfShape", ["huge"], ["zeros"]), ("Add", ["before", "zeros"], ["audio"]))
HOSTILE = [
    ("missing key 'hop_length'", put("hop_length", None)),
    ("missing key 'trimmed_samples'", put("trimmed_samples", None)),
    ("receptive_field is 99999999; allowed: 0 to 4096", put("receptive_field", "9" * 8)),
    ("sample_rate is '9999", put("sample_rate", "9" * 5000)),
    ("other sizes than sample_rate", put("sample_rate", "48000")),
    ("no JSON", put("mel", "[" * 100_000)),
    ("no JSON", put("mel", '{"n_fft": ' + "9" * 5000 + "}")),
    ("unknown key 'x'", put("mel", '{"x": 1}')),
    ("n_fft is 100000000", put("mel", '{"sample_rate": 16000, "hop_length": 128, "n_mels": 40, "n_fft": 100000000}')),
    ("gives float32 of .* for 24 frames", put("trimmed_samples", "0")),
    ("takes mel and gives audio; .* takes features", put("mel", None)),
    ("finite", after_audio(("Log", ["before"], ["audio"]))),
    ("refuses .*Non-zero status", BOMB),
    ("contains Loop", loop),
    ("operators of org.evil", lambda model: model.opset_import.append(onnx.helper.make_opsetid("org.evil", 1))),
    ("keeps weights in '/etc/passwd'", kept_in("/etc/passwd")),
    ("keeps weights in '../../etc/passwd'", kept_in("../../etc/passwd")),
    ("keeps weights in 'link.bin'", kept_in("link.bin")),
    ("keeps weights in 'none.bin'", kept_in("none.bin")),
    ("refuses", kept_in("short.bin")),
    ("refuses", lambda model: model.graph.initializer[0].dims.__setitem__(0, 2**40)),
]


@pytest.mark.parametrize(("message", "change"), HOSTILE, ids=[f"{i}" for i in range(len(HOSTILE))])
def test_a_hostile_file_is_one_line(message: str, change: Callable[[Any], None], made: Any, tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(made)
    change(model)
    (tmp_path / "v.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "short.bin").write_bytes(b"x")
    os.symlink("/etc/passwd", tmp_path / "link.bin")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((tts_infer.CheckpointError, tts_infer.ConfigError), match=message) as caught:
        tts_infer.load_vocoder(tmp_path / "v.onnx", device="cpu")
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in kB
    assert grown < 200_000


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, bytes(1000), b"\x08\x01"])
def test_what_is_no_graph(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.onnx").write_bytes(content)
    with pytest.raises(tts_infer.CheckpointError, match=r"cannot read a graph .* write it with 'tts-infer export'"):
        tts_infer.load_vocoder(tmp_path / "v.onnx", device="cpu")


@pytest.mark.parametrize("padding", ["center", "same"])
def test_from_audio(padding: Any, tmp_path: Path) -> None:
    import onnxruntime

    vocoder = small_vocoder(padding)
    done = tts_infer.export_onnx(vocoder, tmp_path / "copy.onnx", source="audio")
    assert (done.inputs, done.outputs) == (("audio",), ("copy",))
    assert not {"DFT", "STFT", "Loop", "If"} & {node.op_type for node in onnx.load(done.path).graph.node}
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    for samples in (2, 5, 127, 128, 129, 255, 256, 400, 5000):  # short ones are mirrored more than once
        if padding == "same" and samples < vocoder.hop_length:
            continue  # too short for a frame
        audio = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) / 10
        got, expected = torch.from_numpy(session.run(None, {"audio": audio.numpy()})[0]), vocoder(audio)
        assert got.shape == expected.shape
        assert not got.numel() or relative_error(got, expected) <= 1e-3  # logarithms of rounded sums, see `Copier`
    with pytest.raises(tts_infer.ExportError, match="use the layout 'waveform'"):
        tts_infer.export_onnx(vocoder, tmp_path / "s.onnx", layout="sherpa-onnx", source="audio")
    with pytest.raises(tts_infer.InputError, match="source is 'text'; allowed: features, audio"):
        tts_infer.export_onnx(vocoder, tmp_path / "s.onnx", source="text")  # type: ignore[arg-type]
    with pytest.raises(tts_infer.CheckpointError, match="takes audio and gives copy"):
        tts_infer.load_vocoder(done.path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fft", "matmul"])
def test_by_hand(method: Any, tmp_path: Path) -> None:
    """torch's own exporter takes the model as it was loaded, whose transforms are FFTs, which ONNX lacks."""
    import onnxruntime

    vocoder = tts_infer.load_vocoder(device="cpu", refine=0, istft=method, check=False)
    path = str(tmp_path / "v.onnx")
    axes = {"mel": {0: "B", 2: "L"}, "audio": {0: "B", 1: "T"}}
    torch.onnx.export(
        vocoder.model,
        (mels(vocoder, 94),),
        path,
        input_names=["mel"],
        output_names=["audio"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for frames in (2, 3, 10, 94, 300):
        mel = mels(vocoder, frames)
        got = torch.from_numpy(session.run(None, {"mel": mel.numpy()})[0])
        assert relative_error(got, vocoder.decode(mel, check_convention=False)) <= ROUNDING


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tts_infer.MelConventionWarning")
def test_torch_compile_of_a_caller() -> None:
    vocoder = tts_infer.load_vocoder(device="cpu", refine=0, check=False)

    def louder(mel: Tensor) -> Tensor:
        return vocoder.decode(mel + 0.0) * 0.5

    compiled = torch.compile(louder)
    # its first second is compared with conventions, which the compiler failed to trace
    for frames in (3, 94, 10, 1, *range(20, 40)):
        assert torch.equal(compiled(mels(vocoder, frames)), louder(mels(vocoder, frames)))
