"""Export: the file computes what torch computes, at every length, in runtimes that know nothing of this package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import tts_infer
from tests.conftest import ROOT
from tests.gan import KINDS, SIZES, official_weights, save
from tests.helpers import small_vocoder
from tts_infer.cli import main
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.refine import Refinement
from tts_infer.export.onnx import CHECKED_SIZES
from tts_infer.runtime.placement import make_placement
from tts_infer.stages import relative_error, wave
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.encodec import EncodecConfig, EncodecVocosConfig
from tts_infer.vocoders.heads import CosHeadConfig, HeadConfig
from tts_infer.vocoders.networks import Contextual
from tts_infer.vocoders.resnet import ResNetConfig
from tts_infer.vocoders.soprano import SopranoConfig
from tts_infer.vocoders.vocos import BackboneConfig, VocoderConfig

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tts-infer[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'tts-infer[onnx]'")

LENGTHS = (1, 2, 3, 10, 94, 300)
BANNED = {"DFT", "STFT", "ConvTranspose", "Loop", "If", "Scan", "ScatterND"}  # the last is slow on most devices


@pytest.fixture(scope="module")
def vocoder() -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(device="cpu", refine=0, check=False)


@pytest.fixture(scope="module")
def mel(vocoder: tts_infer.Vocoder) -> Tensor:
    clip = tts_infer.read_audio(ROOT / "examples/english.wav", vocoder.sample_rate)
    return vocoder.mel(clip.samples)


@pytest.fixture(scope="module")
def exported(vocoder: tts_infer.Vocoder, tmp_path_factory: pytest.TempPathFactory) -> tts_infer.Export:
    return tts_infer.export_onnx(vocoder, tmp_path_factory.mktemp("export") / "vocoder.onnx")


def run(path: Path, features: Tensor) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: features.numpy()})
    return results


def agrees(got: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Equal up to rounding; one frame of padding "center" gives no samples."""
    return got.shape == expected.shape and (not expected.numel() or relative_error(got, expected) <= tolerance)


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("batch", [1, 3])
def test_any_length_and_batch(
    frames: int, batch: int, exported: tts_infer.Export, vocoder: tts_infer.Vocoder, mel: Tensor
) -> None:
    given = mel[..., :frames].repeat(batch, 1, 1)
    (audio,) = run(exported.path, given)
    # the trained network magnifies the rounding of float32 sums, see `test_onednn`
    assert agrees(torch.from_numpy(audio), vocoder.decode(given), 1e-4)


def test_one_file_of_standard_operators(exported: tts_infer.Export) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == ["vocoder.onnx"]
    assert exported.path.stat().st_size == exported.size
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    assert not BANNED & {node.op_type for node in model.graph.node}
    kinds = {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
    assert not kinds & {tensor.data_type for tensor in model.graph.initializer}


def test_the_file_says_what_it_is(exported: tts_infer.Export, vocoder: tts_infer.Vocoder) -> None:
    written = {one.key: one.value for one in onnx.load(exported.path).metadata_props}
    assert written == exported.metadata
    assert tts_infer.MelConfig(**json.loads(written.pop("mel"))) == vocoder.mel_config
    preset = tts_infer.known_vocoders()[vocoder.name]
    assert written.pop("license") == preset.license
    assert written.pop("tts_infer_version").count(".") == 2
    assert written == {
        "model_type": "vocos",
        "name": vocoder.name,
        "sample_rate": "24000",
        "n_fft": "1024",
        "win_length": "1024",
        "hop_length": "256",
        "trimmed_samples": "256",
        "receptive_field": "30",  # 27 of the convolutions, 2 of the windows, and 1
        "window_type": "hann",
        "padding": "center",
    }


def test_every_size_was_compared(exported: tts_infer.Export) -> None:
    assert [(check.batch, check.frames) for check in exported.checks] == list(CHECKED_SIZES)
    assert {frames for _, frames in CHECKED_SIZES} == {1, 2, 3, 10, 94, 938}
    assert 0 < max(check.error for check in exported.checks) <= 1e-4


def test_refinement_in_the_graph(tmp_path: Path, mel: Tensor, vocoder: tts_infer.Vocoder) -> None:
    path = tts_infer.export_onnx(vocoder, tmp_path / "refined.onnx", refine=2).path
    for frames in LENGTHS:
        (audio,) = run(path, mel[..., :frames])
        # as above; passes divide by magnitudes, which magnifies it once more
        assert agrees(torch.from_numpy(audio), vocoder.decode(mel[..., :frames], refine=2), 5e-4)
    assert not agrees(torch.from_numpy(audio), vocoder.decode(mel[..., :300], refine=0), 1e-2)
    assert not BANNED & {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize(("passes", "wrong_by"), [(2, 2e-4), pytest.param(8, 2e-3, marks=pytest.mark.slow)])
def test_passes_are_checked_on_the_mel_of_a_signal(
    passes: int,
    wrong_by: float,
    tmp_path: Path,
    mel: Tensor,
    vocoder: tts_infer.Vocoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Towards a mel that no signal has, passes magnify rounding: eight were refused."""
    (audio,) = run(tts_infer.export_onnx(vocoder, tmp_path / "right.onnx", refine=passes).path, mel[..., :300])
    # measured 1e-6 and 4e-6 on speech; what the network magnifies changes with its weights
    assert agrees(torch.from_numpy(audio), vocoder.decode(mel[..., :300], refine=passes), 1e-4)
    right = Refinement.whole  # what is traced

    def wrong(refinement: Refinement, *given: Any) -> Any:
        return tuple((1 + wrong_by) * part for part in right(refinement, *given))

    monkeypatch.setattr(Refinement, "whole", wrong)
    with pytest.raises(tts_infer.ExportError, match="the graph differs from torch"):
        tts_infer.export_onnx(vocoder, tmp_path / "wrong.onnx", refine=passes)


@pytest.mark.slow
def test_as_many_passes_as_the_page_offers_can_be_exported(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    assert tts_infer.export_onnx(vocoder, tmp_path / "most.onnx", refine=24).path.exists()


@pytest.mark.parametrize("layout", ["waveform", "sherpa-onnx"])
def test_padding_same(layout: Any, tmp_path: Path) -> None:
    """sherpa-onnx cannot trim as "same" does, so it gets a waveform there, too."""
    small = small_vocoder("same")
    done = tts_infer.export_onnx(small, tmp_path / "same.onnx", layout=layout)
    assert done.inputs == ("mel" if layout == "waveform" else "mels",)
    assert done.outputs == ("audio",)
    assert done.metadata["model_type"] == ("vocos" if layout == "waveform" else "hifigan")
    given = torch.randn(2, 40, 1)
    assert relative_error(torch.from_numpy(run(done.path, given)[0]), small.decode(given)) <= 1e-5  # float32 sums


def sizes_of(family: str) -> Any:
    """A small configuration of each family that needs no file."""
    mel = tts_infer.MelConfig(sample_rate=16000, n_fft=512, hop_length=128, n_mels=40)
    backbone, chosen = BackboneConfig(40, 32, 64, 2), BackboneConfig(128, 32, 64, 2, adanorm_num_embeddings=4)
    return {
        "MDCT": lambda: VocoderConfig(mel, backbone, CosHeadConfig(32, 256, "center")),  # type: ignore[arg-type]
        "ResNet": lambda: VocoderConfig(mel, ResNetConfig(40, 32, 2), HeadConfig(32, 512, 128)),  # type: ignore[arg-type]
        "encodec": lambda: EncodecVocosConfig(EncodecConfig(), chosen, HeadConfig(32, 1280, 320)),
        "soprano": lambda: SopranoConfig(24, 2, 32, hop_length=64, n_fft=256),
    }[family]()


@pytest.mark.parametrize("kind", ["MDCT", "ResNet", "encodec", "soprano", *KINDS])
def test_every_family(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if kind in KINDS:
        config = SIZES | KINDS[kind]
        vocoder = tts_infer.load_vocoder(save(tmp_path, config, official_weights(config)), device="cpu", check=False)
    else:
        family = FAMILIES[kind if kind in FAMILIES else "vocos"]
        model = family.build(sizes_of(kind)).eval()
        placement = make_placement(device="cpu", check=False, stages=family.stages(model))
        vocoder = tts_infer.Vocoder(model, placement, kind)
    (tmp_path / "out").mkdir()
    done = tts_infer.export_onnx(vocoder, tmp_path / "out" / "vocoder.onnx")
    conditions = {name: np.array([2, 1]) for name in done.inputs[1:]}
    assert list(conditions) == (["bandwidth_id"] if kind == "encodec" else [])
    features = torch.randn(2, vocoder.n_mels, 7)
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    (audio,) = session.run(None, {done.inputs[0]: features.numpy(), **conditions})
    given: dict[str, Any] = {name: numbers.tolist() for name, numbers in conditions.items()}
    expected = vocoder.decode(features, refine=0, **given)
    assert agrees(torch.from_numpy(audio), expected, 1e-5)  # float32 sums


def test_a_wrong_graph_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ISTFT._traced_hops
    monkeypatch.setattr(ISTFT, "_traced_hops", lambda istft, *spectrum: right(istft, *spectrum) * 1.001)
    kept = tmp_path / "vocoder.onnx"
    kept.write_bytes(b"of yesterday")
    with pytest.raises(
        tts_infer.ExportError, match=r"differs from torch by 1.0e-03 of the peak .* no file was written"
    ):
        tts_infer.export_onnx(small_vocoder(), kept)
    assert [path.name for path in tmp_path.iterdir()] == ["vocoder.onnx"]
    assert kept.read_bytes() == b"of yesterday"


class Sized(nn.Module):
    """Its Python looks at a length: a graph of it is right for the example only."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[1] > 3 else 2 * x


def test_what_has_no_graph(tmp_path: Path) -> None:
    vocoder = small_vocoder()
    vocoder.model.backbone.convnext[0].act = Sized()
    with pytest.raises(tts_infer.ExportError, match="no ONNX graph"):
        tts_infer.export_onnx(vocoder, tmp_path / "vocoder.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = small_vocoder()
    with pytest.raises(tts_infer.FileError, match=r"extension '.pt'; allowed: .onnx"):
        tts_infer.export_onnx(small, tmp_path / "vocoder.pt")
    with pytest.raises(tts_infer.FileError, match="no such folder"):
        tts_infer.export_onnx(small, tmp_path / "none" / "vocoder.onnx")
    with pytest.raises(tts_infer.InputError, match="layout is .web.; allowed: waveform, sherpa-onnx"):
        tts_infer.export_onnx(small, tmp_path / "vocoder.onnx", layout="web")  # type: ignore[arg-type]
    with pytest.raises(tts_infer.InputError, match="refine is -1; allowed: a number of passes"):
        tts_infer.export_onnx(small, tmp_path / "vocoder.onnx", refine=-1)
    assert main(["export", "vocos-mini-24khz", "-o", str(tmp_path / "vocoder.bin")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.onnx"
    assert main(["export", "vocos-mini-24khz", "--for", "sherpa-onnx", "-o", str(path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["inputs"], printed["outputs"]) == (["mels"], ["mag", "x", "y"])
    needed = "model_type sample_rate version n_fft hop_length win_length window_type center pad_mode normalized"
    keys = {key: printed["metadata"][key] for key in needed.split()}
    assert list(keys.values()) == ["vocos", "24000", "1", "1024", "256", "1024", "hann", "1", "reflect", "0"]
    assert len(printed["checks"]) == len(CHECKED_SIZES)


@pytest.mark.parametrize("padding", ["center", "same"])
def test_sherpa_onnx_decodes(padding: str, tmp_path: Path, vocoder: tts_infer.Vocoder, mel: Tensor) -> None:
    """Through the real package, which decodes text only: a constant acoustic model gives the mel."""
    sherpa = pytest.importorskip("sherpa_onnx", reason="sherpa-onnx is not installed")
    if padding == "same":
        vocoder = small_vocoder("same")
        mel = 2 * wave(1, vocoder.n_mels, 150) - 5
    file = tts_infer.export_onnx(vocoder, tmp_path / "vocoder.onnx", layout="sherpa-onnx").path
    (tmp_path / "tokens.txt").write_text("_ 0\na 1\n")
    (tmp_path / "lexicon.txt").write_text("a a\n")
    onnx.save(constant_acoustic_model(mel, vocoder.sample_rate), tmp_path / "acoustic.onnx")
    matcha = sherpa.OfflineTtsMatchaModelConfig(
        acoustic_model=str(tmp_path / "acoustic.onnx"),
        vocoder=str(file),
        lexicon=str(tmp_path / "lexicon.txt"),
        tokens=str(tmp_path / "tokens.txt"),
    )
    config = sherpa.OfflineTtsConfig(model=sherpa.OfflineTtsModelConfig(matcha=matcha, num_threads=1))
    config.silence_scale = 1.0  # leave pauses as they are
    spoken = sherpa.OfflineTts(config).generate("a")
    assert spoken.sample_rate == vocoder.sample_rate
    assert agrees(torch.tensor(spoken.samples)[None], vocoder.decode(mel, refine=0), 1e-4)


def constant_acoustic_model(mel: Tensor, sample_rate: int) -> Any:
    """A Matcha-TTS for sherpa-onnx that says the same, whatever it reads."""
    helper, kinds = onnx.helper, onnx.TensorProto
    inputs = [
        ("x", kinds.INT64),
        ("x_length", kinds.INT64),
        ("noise_scale", kinds.FLOAT),
        ("length_scale", kinds.FLOAT),
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["said"], ["mel"])],
        "acoustic",
        [helper.make_tensor_value_info(name, kind, ["N", "L"] if name == "x" else ["N"]) for name, kind in inputs],
        [helper.make_tensor_value_info("mel", kinds.FLOAT, list(mel.shape))],
        [onnx.numpy_helper.from_array(mel.numpy(), "said")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = {"sample_rate": sample_rate, "n_speakers": 1, "jieba": 1, "use_eos_bos": 0, "pad_id": 0}
    helper.set_model_props(
        model, {name: str(value) for name, value in {"model_type": "matcha-tts", **settings}.items()}
    )
    return model


def test_five_lines_without_torch(exported: tts_infer.Export, vocoder: tts_infer.Vocoder, mel: Tensor) -> None:
    """The lines of docs/export.md, where neither torch nor this package can be imported."""
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    lines = next(text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in text)
    assert len([line for line in lines.splitlines() if line]) <= 5
    folder = exported.path.parent
    np.save(folder / "mel.npy", mel.numpy())
    blocked = "import sys\nsys.modules['torch'] = sys.modules['tts_infer'] = None\n"
    code = f"{blocked}{lines}\nnumpy.save('audio.npy', audio)"
    try:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
        audio = torch.from_numpy(np.load(folder / "audio.npy"))
    finally:
        for name in ("mel.npy", "audio.npy"):
            (folder / name).unlink(missing_ok=True)
    assert agrees(audio, vocoder.decode(mel), 1e-4)


@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(64, 16), (60, 25), (64, 32)])
@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "error::torch.jit.TracerWarning")
def test_a_traced_istft_has_the_envelope_of_every_length(
    n_fft: int, hop_length: int, padding: Any, method: Any
) -> None:
    istft = ISTFT(n_fft, hop_length, padding=padding, method=method)
    bins = n_fft // 2 + 1
    traced = torch.jit.trace(istft, (torch.randn(2, bins, 5), torch.randn(2, bins, 5)))
    for frames in (1, 2, 3, 4, 5, 50):
        real, imag = torch.randn(2, bins, frames), torch.randn(2, bins, frames)
        assert agrees(traced(real, imag), istft(real, imag), 1e-6)  # float32 sums


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "error::torch.jit.TracerWarning")
def test_torch_jit_trace(vocoder: tts_infer.Vocoder, mel: Tensor) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(vocoder.model, mel[..., :3])
        for frames in LENGTHS:
            given = mel[..., :frames].repeat(2, 1, 1)
            assert agrees(traced(given), vocoder.model(given), 1e-5)  # float32 sums


@pytest.mark.parametrize("least", [1, 2])
def test_torch_export_with_a_named_dimension(least: int, vocoder: tts_infer.Vocoder, mel: Tensor) -> None:
    dim = torch.export.Dim
    axes = ({0: dim("B", min=1), 2: dim("L", min=least)},)
    program = torch.export.export(vocoder.model, (mel[..., :94].repeat(2, 1, 1),), dynamic_shapes=axes).module()
    with torch.no_grad():
        for frames in LENGTHS:
            given = mel[..., :frames].clone()
            assert agrees(program(given), vocoder.model(given), 1e-5)  # float32 sums


class Upsampler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(4, 1, 8, stride=4, padding=2)

    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(self.up(features)).flatten(1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "error::torch.jit.TracerWarning")
def test_generators_of_audio_can_be_traced() -> None:
    stage = Contextual(
        "generator", Upsampler().requires_grad_(False), ("mel",), ("audio",), channels=4, hop=4, context=2
    )

    def decode(features: Tensor) -> Tensor:
        (audio,), _ = stage((features,))
        return audio

    traced = torch.jit.trace(decode, torch.randn(2, 4, 24))
    given = torch.randn(1, 4, 1)
    assert torch.equal(traced(given), decode(given))
