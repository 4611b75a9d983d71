"""What is exported: the stages after the features, as one module, and what another program must know about it.

The layout "sherpa-onnx" is what sherpa-onnx loads. For a Vocos whose padding is "center" it ends before the inverse
STFT, because sherpa-onnx computes that itself. Every other vocoder of mels becomes what sherpa-onnx calls a HiFi-GAN: a
waveform for a mel.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tts_infer.config import MelConfig, known_vocoders
from tts_infer.decoding import passes
from tts_infer.devices import CPU
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import LogMel
from tts_infer.engines.chains import Chain, real_stages
from tts_infer.errors import ExportError, InputError
from tts_infer.export.weights import ExportDType, round_blocks
from tts_infer.stages import Stage, total_frames, wave
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import FAMILIES, family_of
from tts_infer.vocoders.features import FeatureSpec, MelSpec

ExportLayout = Literal["waveform", "sherpa-onnx"]
ExportSource = Literal["features", "audio"]
_SOME_FRAMES = 10  # any number but 0: the samples that audio lacks are the same for all
# Passes of refinement divide by magnitudes, which magnifies rounding. With 6 seeds of `_noise`, graphs of the embedded
# vocoder differ from torch by up to 6e-5 of the peak with 4 passes, 7e-4 with 16, and 2e-3 with 24. Torch differs from
# itself by 2e-4 with 12, and 1e-3 with 24, by FFTs and by products. So more passes than these have a wider tolerance.
_MAGNIFIED = ((4, 1e-3), (16, 1e-2))


class Decoder(Chain):
    """The stages from features to audio, as one function.

    Args:
        stages: in order.
        spec: the features.
        name: of the first input in the graph; "": that of the features.

    Shape: (B, C, L) -> (B, T)
    """

    outputs: Mapping[str, Mapping[int, str]] = {"audio": {0: "B", 1: "T"}}  # with the variable axes
    # Largest allowed difference from torch, relative to the peak. Trained networks magnify the rounding of float32:
    # another order of sums changes the audio by up to 5e-5 of the peak, see `tests/test_onnxruntime.py`.
    tolerance = 1e-4

    def __init__(self, stages: Sequence[Stage], spec: FeatureSpec, name: str = "") -> None:
        conditions = [condition.name for condition in spec.conditions]
        super().__init__(stages, [stages[0].takes[0], *conditions])
        self.spec = spec
        self.inputs = (name or stages[0].takes[0], *conditions)
        self.passes = max(stage.passes or 0 for stage in stages)
        for steady, tolerance in _MAGNIFIED:
            if self.passes > steady:
                self.tolerance = tolerance

    def audio(self, *outputs: Tensor) -> Tensor:
        """The waveform of the outputs of the graph."""
        return outputs[0]

    def example(self, batch: int, frames: int) -> dict[str, Tensor]:
        """Inputs to compute with, by name: features in the usual range of log-mels, and the first of each condition.

        Passes pull audio to the mel. They come to an end for the mel of a signal only, and magnify rounding for others.
        """
        features, *conditions = self.inputs
        first = torch.zeros(batch, dtype=torch.int64, device=CPU)
        values = 2 * wave(batch, self.spec.n_channels, frames) - 5
        if self.passes and isinstance(self.spec, MelSpec):
            samples = (frames + 1) * self.spec.config.hop_length + self.spec.config.n_fft
            values = LogMel(self.spec.config)(_noise(batch, samples))[..., :frames].contiguous()
        return {features: values, **dict.fromkeys(conditions, first)}


def _noise(batch: int, samples: int) -> Tensor:
    """Noise that falls by 3 dB an octave, the same every time. Shape: -> (B, T)"""
    spectrum = torch.fft.rfft(torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)))
    falling = 0.3 / (1 + torch.linspace(0, 200, spectrum.shape[1])).sqrt()
    return torch.fft.irfft(spectrum * falling, samples)


class Copier(Decoder):
    """All stages, from audio to audio. Shape: (B, T) -> (B, T'), T rounded down to a multiple of hop_length"""

    outputs: Mapping[str, Mapping[int, str]] = {"copy": {0: "B", 1: "T2"}}
    # A mel is a logarithm: where a band is almost silent, it shows the rounding of its transform, and the network
    # magnifies that. In torch, a mel by products and one by FFTs give white noise that differs by 1.3e-4 of the peak,
    # and speech that differs by 2e-3. A graph whose padding is wrong by one sample differs by 0.1 or more.
    tolerance = 1e-3

    def example(self, batch: int, frames: int) -> dict[str, Tensor]:
        """White noise of about so many frames, the same every time: it has no silent bands."""
        others, hop = super().example(batch, 1), self.spec.hop_length
        noise = torch.randn(batch, frames * hop + hop // 3, generator=torch.Generator().manual_seed(0))
        return others | {self.inputs[0]: noise / 10}


class SpectrumDecoder(Decoder):
    """The stages from features to a spectrum: its magnitude, and the cosine and sine of its phase.

    Shape: (B, C, L) -> 3 x (B, N, L)
    Source: k2-fsa/sherpa-onnx, sherpa-onnx/csrc/vocos-vocoder.cc
    """

    outputs: Mapping[str, Mapping[int, str]] = {name: {0: "B", 2: "L"} for name in ("mag", "x", "y")}

    def __init__(self, stages: Sequence[Stage], spec: FeatureSpec, istft: ISTFT) -> None:
        super().__init__(stages, spec, "mels")
        self.istft = istft

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        live = self.results(*given)
        real, imag = live["real"], live["imag"]
        magnitude = (real * real + imag * imag).sqrt().clamp_min(1e-12)  # so that 0 / 0 gives 0
        return magnitude, real / magnitude, imag / magnitude

    def audio(self, *outputs: Tensor) -> Tensor:
        magnitude, x, y = outputs
        audio: Tensor = self.istft(magnitude * x, magnitude * y)
        return audio


def decoding_stages(
    vocoder: Vocoder, refine: int, source: ExportSource = "features", dtype: ExportDType = "float32"
) -> list[Stage]:
    """Plain copies on the CPU of the stages from features or audio to audio, without those that are skipped.

    Raises:
        ExportError: they are no modules of ours, make no features of audio, or have no weights to round.
        InputError: a number of passes that this vocoder cannot refine with.
    """
    refine = passes(refine)
    family = family_of(vocoder.model)
    if any(stage.engines for stage in family.stages(vocoder.model)):
        raise ExportError("{name} is a graph already; copy the file", code="export-again", name=vocoder.name)
    whole = next((stage.name for stage in family.stages(vocoder.model) if stage.whole), None)
    if whole is not None:
        text = "{name} has no graph: its stage {stage!r} computes over the whole signal, or is other software"
        raise ExportError(text, code="export-whole", name=vocoder.name, stage=whole)
    model = copy.deepcopy(vocoder.model).cpu().float().eval()
    stages, features = family.stages(model), family.features(model.config).name
    first = next((i + 1 for i, stage in enumerate(stages) if features in stage.gives), 0)
    if source == "audio" and stages[0].takes != ("audio",):
        text = "{name} makes no {features} of audio; use the source 'features'"
        raise ExportError(text, code="export-source", name=vocoder.name, features=features)
    chosen = stages[0 if source == "audio" else first :]
    chain = [stage if stage.passes is None else dataclasses.replace(stage, passes=refine) for stage in chosen]
    if refine and not any(stage.passes for stage in chain):
        text = "refine is {refine}, but {name} has no stage that refines; use 0"
        raise InputError(text, code="export-refine", refine=refine, name=vocoder.name)
    if dtype != "float32" and not round_blocks(chain, dtype):
        text = "{name} has no blocks with large weights; leave the dtype at float32"
        raise ExportError(text, code="export-no-blocks", name=vocoder.name)
    return [stage for stage in chain if stage.passes != 0]


def graph_of(
    vocoder: Vocoder, layout: str, source: ExportSource, refine: int, dtype: ExportDType = "float32"
) -> Decoder:
    """The module that becomes the graph: every stage by real numbers only."""
    choices = (("layout", layout, ExportLayout), ("source", source, ExportSource), ("dtype", dtype, ExportDType))
    for name, got, known in choices:
        if got not in get_args(known):
            allowed, text = ", ".join(get_args(known)), "{name} is {got!r}; allowed: {allowed}"
            raise InputError(text, code="export-layout", name=name, got=got, allowed=allowed)
    stages = real_stages(decoding_stages(vocoder, refine, source, dtype))
    features = family_of(vocoder.model).features(vocoder.model.config)
    if layout == "waveform":
        return (Copier if source == "audio" else Decoder)(stages, features)
    if source == "audio" or features.name != "mel" or features.conditions:
        text = "sherpa-onnx decodes mels, and this would take {features}; use the layout 'waveform'"
        names = ", ".join((stages[0].takes[0], *(condition.name for condition in features.conditions)))
        raise ExportError(text, code="export-sherpa", features=names)
    if _has_spectrum(stages[-1]):
        return SpectrumDecoder(stages[:-1], features, stages[-1].module)
    return Decoder(stages, features, "mels")


def _has_spectrum(last: Stage) -> bool:
    """Whether sherpa-onnx can compute the last stage: it trims as "center" does."""
    return isinstance(last.module, ISTFT) and last.module.padding == "center"


def metadata_of(vocoder: Vocoder, layout: str, refine: int) -> dict[str, str]:
    """What another program must know to use the file; `vocoders/graph.py` reads it."""
    model = vocoder.model
    family = family_of(model)
    spec, last, known = family.features(model.config), family.stages(model)[-1], known_vocoders()
    values: dict[str, Any] = {
        "model_type": next(name for name, one in FAMILIES.items() if one is family),
        "name": vocoder.name,
        "license": known[vocoder.name].license if vocoder.name in known else "unknown",
        "sample_rate": spec.sample_rate,
        "hop_length": spec.hop_length,
        "trimmed_samples": _SOME_FRAMES * spec.hop_length - family.n_samples(model.config, _SOME_FRAMES),
        # one frame more, because pieces are cut at whole frames and a transform may reach half of one further
        "receptive_field": total_frames(decoding_stages(vocoder, refine), lambda stage: stage.delay_frames) + 1,
        "tts_infer_version": version("tts-infer"),
    }
    if isinstance(istft := last.module, ISTFT):
        sizes = {"n_fft": istft.n_fft, "win_length": istft.win_length}
        values |= {**sizes, "window_type": "hann", "padding": istft.padding}
    if isinstance(config := getattr(spec, "config", None), MelConfig):
        values["mel"] = json.dumps(dataclasses.asdict(config))
    if layout == "sherpa-onnx":
        values |= {"model_type": "hifigan", "version": 1}
        if _has_spectrum(last):
            values |= {"model_type": "vocos", "center": 1, "pad_mode": "reflect", "normalized": 0}
    return {name: str(value) for name, value in values.items()}
