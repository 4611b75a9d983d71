"""The modules against the official package, on the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino
import pytest
import torch
from safetensors.torch import load_file

import tts_infer
from tts_infer.config import MelConfig, Padding
from tts_infer.stages import relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.reference import OfficialVocos
from tts_infer.vocoders.vocos import MAX_MAGNITUDE, BackboneConfig, HeadConfig, VocoderConfig, Vocos

# What official checkpoints store beside the weights.
STORED_CONSTANTS = {
    "feature_extractor.mel_spec.spectrogram.window",
    "feature_extractor.mel_spec.mel_scale.fb",
    "head.istft.window",
}


def official_model(config: VocoderConfig) -> OfficialVocos:
    """The official modules with random weights, large enough that every layer matters."""
    torch.manual_seed(0)
    model = OfficialVocos(config).eval()
    for parameter in model.backbone.parameters():
        if parameter.ndim > 1:
            parameter.data *= 3.0
    return model


def ours_with_weights_of(model: OfficialVocos, config: VocoderConfig, method: Any) -> Vocos:
    ours = Vocos(config, method).eval()
    weights = {k: v for k, v in model.state_dict().items() if k not in STORED_CONSTANTS}
    ours.load_state_dict(weights)
    return ours


def sizes(dim: int, padding: Padding) -> VocoderConfig:
    return VocoderConfig(
        MelConfig(padding=padding), BackboneConfig(dim=dim, intermediate_dim=3 * dim), HeadConfig(dim, padding=padding)
    )


@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize(("dim", "padding"), [(512, "center"), (256, "center"), (256, "same")])
def test_decode_parity_with_random_weights(dim: int, padding: Padding, method: Any) -> None:
    config = sizes(dim, padding)
    expected_model = official_model(config)
    model = ours_with_weights_of(expected_model, config, method)
    with torch.inference_mode():
        for batch, frames in [(1, 1), (3, 2), (1, 3), (3, 10), (1, 94), (3, 94), (1, 938)]:
            mel = torch.randn(batch, 100, frames, generator=torch.Generator().manual_seed(frames)) * 2 - 4
            if frames == 1 and padding == "center":  # the official package fails here; ours gives what T says: nothing
                assert model(mel).shape == (batch, 0)
                continue
            audio, expected = model(mel), expected_model(mel)
            assert audio.shape == expected.shape
            # float32 through 8 layers, whose linear algebra is the same but for the spectral sums
            assert (audio - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_decode_parity_of_the_embedded_checkpoint(official: Any, speech: torch.Tensor, method: Any) -> None:
    files = resolve("vocos-mini-24khz")
    loaded = load_model(files)
    model = Vocos(loaded.config, method).eval()
    model.load_state_dict(loaded.state_dict())
    expected_model = official.pretrained.Vocos.from_hparams(str(files.config))
    expected_model.load_state_dict(load_file(files.weights))  # strict: the official package loads the file as it is
    with torch.inference_mode():
        mel = expected_model.eval().feature_extractor(speech)
        audio, expected = model(mel), expected_model.decode(mel)
    assert audio.shape == expected.shape
    assert (audio - expected).abs().max() <= 1e-5 * expected.abs().max()  # as above


def test_magnitudes_are_capped() -> None:
    model = Vocos(sizes(64, "center")).eval()
    model.head.out.bias.data[:513] = 50.0  # exp(50) would be 5e21
    with torch.inference_mode():
        real, imag = model.head(torch.zeros(1, 4, 64))
    assert torch.allclose(torch.hypot(real, imag), torch.tensor(MAX_MAGNITUDE), rtol=1e-6)  # one float32 rounding


def test_parameter_names_are_the_official_ones() -> None:
    config = sizes(64, "center")
    assert set(Vocos(config).state_dict()) == set(official_model(config).state_dict()) - set(STORED_CONSTANTS)


def test_spectral_stages_have_two_methods() -> None:
    model = Vocos(sizes(64, "center"), "fft").eval()
    for stage in FAMILIES["vocos"].stages(model):
        if not stage.methods:
            continue
        stage = stage if stage.passes is None else replace(stage, passes=1)
        results = [stage.by(method)(stage.probe())[0] for method in stage.methods]
        assert [stage.by(method).method for method in stage.methods] == ["matmul", "fft"]
        assert relative_error(*results) <= 1e-5  # two float32 transforms of one signal


def test_the_constants_of_checkpoints_are_known() -> None:
    assert set(FAMILIES["vocos"].constants(Vocos(sizes(64, "center")))) == STORED_CONSTANTS


def test_shared_speech_is_copied_well(vocoder: Any) -> None:
    clips = sorted((Path(__file__).parent.parent.parent / "shared" / "speech" / "heldout").glob("*/*.flac"))[::10]
    if not clips:
        pytest.skip("no recordings beside the project")
    for clip in clips:
        result = vocoder.synthesize(audio=tts_infer.read_audio(clip, 24000).samples)
        error = tts_infer.log_mel_error_db(result.features, vocoder.mel(result.audio))
        print(f"{clip.name}: log-mel error {error:.2f} dB")
        assert error < 3.0  # 0.19 nepers = 1.7 dB on average by the model card; noise instead of speech gives 10


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_one_exported_graph_serves_every_length(method: Any) -> None:
    """Exported, as to ONNX; and traced, as OpenVINO takes it."""
    config = sizes(16, "center")
    model = ours_with_weights_of(official_model(config), config, method)
    example, free = (torch.randn(2, 100, 300),), torch.export.Dim.AUTO
    programs = [
        torch.export.export(model, example, dynamic_shapes=({0: free, 2: free},)).module(),
        torch.jit.trace(model, example),
    ]
    for batch, frames in ((1, 10), (3, 600)):
        mel = torch.randn(batch, 100, frames)
        with torch.inference_mode():
            want = model(mel)
            for program in programs:  # products may be summed in another order
                assert (program(mel) - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_what_openvino_reads_is_right() -> None:
    """It reads traces, and loses what is written in place to views of views."""
    config = sizes(16, "center")
    model = ours_with_weights_of(official_model(config), config, "matmul")
    graph = openvino.convert_model(model, example_input=torch.randn(1, 100, 50))
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for frames in (10, 50, 600):
        mel = torch.randn(1, 100, frames)
        with torch.inference_mode():
            want = model(mel)
        # products summed in another order
        assert (torch.from_numpy(compiled(mel.numpy())[0]) - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_mels_compile_without_graph_breaks(method: Any) -> None:
    mel = tts_infer.LogMel(MelConfig(), method)
    compiled = torch.compile(mel, fullgraph=True, backend="aot_eager")  # which traces all, and needs no compiler
    audio = torch.randn(2, 24000, generator=torch.Generator().manual_seed(0))
    # the same operators, on what is no silence
    assert torch.allclose(compiled(audio), mel(audio), atol=1e-5)
