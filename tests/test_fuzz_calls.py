"""Every public function called with what it is not made for: an error of the package, one line below 300 characters.

`make fuzz` runs thousands of examples. A new public name must be called here, or in test_fuzz.py, or stand in MADE.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

import tts_infer
from tests.test_fuzz import ODD, VOCODER, arrays, fuzz, outcome
from tts_infer import doctor, pictures

pytestmark = pytest.mark.usefixtures("_small_numbers_count")

CLIP = str(Path(__file__).parent.parent / "examples" / "english.wav")
NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, 9000).astype(np.float32)
MEL = torch.full((1, 40, 7), -5.0)
NOWHERE = "/proc/no/way"  # no test writes there, on whatever system

# Names that only the package gives values to, and names without arguments.
MADE = {
    *("BatchReport", "Comparison", "Evaluation", "Export", "FileSynthesis", "LiveAudio", "Note", "Place", "Placement"),
    *("RoundingCost", "Speaker", "Speech", "SpeechReport", "SpeechStream", "StageCheck", "StreamingDecoder", "Voice"),
    *("StreamingMel", "Synthesis", "VocoderPreset", "WebExport", "Sentence", "Several"),
}
ALONE = (
    "available_devices",
    "clear_checks",
    "known_vocoders",
    "limit_memory",
    "list_vocoders",
    "list_voices",
    "named_placements",
    "trim_memory",
)
ALONE_OF_VOCODER = {
    "cpu",
    "float",
    "half",
    "bfloat16",
    "eval",
    "train",
    "parameters",
    "state_dict",
    "feature_extractor",
}


def nothing(name: str, **_: Any) -> Any:
    """Loads nothing."""
    return tts_infer.load_vocoder("nobody")


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "AudioClip": lambda samples, rate: tts_infer.resample(tts_infer.AudioClip(samples, rate), 16000),
    "ConventionCheck": lambda config, _: tts_infer.ConventionCheck(config),
    "ConventionCheck()": lambda mel, _: tts_infer.ConventionCheck(VOCODER.mel_config)(mel),
    "GuardedApp": lambda app, settings: tts_infer.GuardedApp(app, settings),
    "LogMel": lambda config, method: tts_infer.LogMel(config, method),
    "LogMel()": lambda audio, _: tts_infer.LogMel(VOCODER.mel_config, "fft")(audio),
    "MelUnit": lambda scale, offset: tts_infer.convert_mel(MEL, from_=tts_infer.MelUnit(scale, offset)),
    "compare": lambda source, runs: tts_infer.compare(source, [VOCODER], runs=runs if runs is None else 0),  # type: ignore[arg-type]
    "compare systems": lambda systems, runs: tts_infer.compare(MEL, systems, runs=runs),
    "contestants": lambda vocoders, engines: tts_infer.contestants(vocoders, engines, load=nothing),
    "contestants settings": lambda places, refine: tts_infer.contestants(
        ["nobody"], ["auto"], places, refine, load=nothing
    ),
    "convention_name": lambda config, _: tts_infer.convention_name(config),
    "convert_mel": lambda mel, unit: tts_infer.convert_mel(mel, from_=unit),
    "describe_vocoder": lambda name, config: tts_infer.describe_vocoder(name, config=config),
    "ServerApp": lambda settings, speakers: tts_infer.ServerApp([VOCODER], settings, speakers),
    "ServerSettings": lambda key, streams: tts_infer.ServerSettings(api_key=key, streams=streams),
    "ServerSettings names": lambda cors, hosts: tts_infer.ServerSettings(cors=cors, hosts=hosts),
    "SignalMeter": lambda block, _: tts_infer.SignalMeter().add(block),
    "System": lambda one, other: tts_infer.systems_of([tts_infer.System(one, other, one, other)]),
    "check_report": lambda path, _: tts_infer.check_report(path),
    "device_lock": lambda device, other: tts_infer.device_lock(device, other),
    "estimate_f0": lambda samples, rate: tts_infer.estimate_f0(samples, rate),
    "estimate_f0 hop": lambda rate, hop: tts_infer.estimate_f0(
        NOISE,
        rate if rate is None else 16000,  # type: ignore[arg-type]
        hop,
    ),
    "evaluate": lambda files, vocoders: tts_infer.evaluate(files, vocoders),
    "evaluate settings": lambda refine, limit: tts_infer.evaluate("no.wav", [VOCODER], refine=refine, limit=limit),
    "export_onnx": lambda path, refine: tts_infer.export_onnx(VOCODER, path, refine=refine),
    "export_onnx names": lambda layout, source: tts_infer.export_onnx(
        VOCODER, f"{NOWHERE}/a.onnx", layout=layout, source=source
    ),
    "export_web": lambda runtime, refine: tts_infer.export_web(VOCODER, NOWHERE, runtime=runtime, refine=refine),
    "find_voice": lambda name, _: tts_infer.find_voice(name),
    "live_speech": lambda speaker, frame_ms: tts_infer.live_speech(speaker, "a text", frame_ms),
    "load_speaker": lambda vocoder, device: tts_infer.load_speaker("nobody", vocoder=vocoder, device=device),
    "load_speakers": lambda vocoders, device: tts_infer.load_speakers(vocoders, ["nobody"], device),
    "load_vocoder": lambda name, device: tts_infer.load_vocoder(name, device=device),
    "load_vocoder settings": lambda dtype, refine: tts_infer.load_vocoder("nobody", dtype=dtype, refine=refine),
    "make_placement": lambda spec, device: tts_infer.make_placement(spec, device, check=False),
    "make_placement methods": lambda mel, istft: tts_infer.make_placement(None, "cpu", mel, istft, check=False),
    "make_placement engine": lambda dtype, engine: tts_infer.make_placement(
        None, "cpu", dtype=dtype, engine=engine, check=False
    ),
    "mel_centres": lambda config, _: tts_infer.mel_centres(config),
    "notes_of_output": lambda samples, clipped: tts_infer.notes_of_output(tts_infer.SignalMeter(), samples, clipped),
    "doctor.examine": lambda device, vocoder: doctor.examine(device, vocoder),
    "pictures.mel_pictures": lambda panels, config: pictures.mel_pictures(panels, config),
    "read_audio meter": lambda meter, _: tts_infer.read_audio(CLIP, None, meter),
    "read_blocks": lambda rate, seconds: list(tts_infer.read_blocks(CLIP, rate, seconds)),
    "read_text": lambda source, _: tts_infer.read_text(source),
    "require_input": lambda path, _: tts_infer.require_input(path),
    "serve": lambda vocoders, port: tts_infer.serve(vocoders, "256.0.0.1", port),  # where nothing can listen
    "speak": lambda text, speed: tts_infer.speak(text, "nobody", speed=speed),
    "speak_stream": lambda text, seed: tts_infer.speak_stream(text, "nobody", seed=seed),
    "synthesize_batch": lambda container, journal: tts_infer.synthesize_batch(
        VOCODER, "no.wav", NOWHERE, container=container, journal=journal
    ),
    "synthesize_batch executor": lambda form, executor: tts_infer.synthesize_batch(
        VOCODER, "no.wav", NOWHERE, sample_format=form, executor=executor
    ),
    "synthesize_file": lambda vocoder, target: tts_infer.synthesize_file(vocoder, CLIP, target),
    "systems_of": lambda vocoders, refine: tts_infer.systems_of(vocoders, refine),
    "systems_of settings": lambda refine, baseline: tts_infer.systems_of([VOCODER], refine, baseline),
    "warm_up": lambda vocoder, _: tts_infer.warm_up(vocoder),
    "wav_header": lambda samples, comments: tts_infer.wav_header(16000, samples, "pcm16", comments),
    "write_audio": lambda form, comments: tts_infer.write_audio("/dev/null", NOISE, 16000, form, comments),
    "write_comparison": lambda path, comparison: tts_infer.write_comparison(path, comparison),
    "write_report": lambda path, evaluation: tts_infer.write_report(path, evaluation, []),
    "vocoder()": lambda audio, refine: VOCODER(audio, refine=0 if isinstance(refine, int) else refine),
    "vocoder.astream": lambda mels, frame_ms: VOCODER.astream(mels, frame_ms),
    "vocoder.checked_features": lambda features, check: VOCODER.checked_features(features, check),
    "vocoder.codes_to_features": lambda codes, _: VOCODER.codes_to_features(codes),
    "vocoder.conditions_of": lambda codes, _: VOCODER.conditions_of(codes),
    "vocoder.cuda": lambda index, _: VOCODER.cuda(index) if not torch.cuda.is_available() else None,
    "vocoder.decode conditions": lambda features, value: VOCODER.decode(features, bandwidth_id=value),
    "vocoder.decode lengths": lambda lengths, _: VOCODER.decode(torch.cat([MEL, MEL]), lengths),
    "vocoder.from_pretrained": lambda name, revision: VOCODER.from_pretrained(name, revision),
    "vocoder.mel_stream": lambda pieces, _: list(VOCODER.mel_stream().compute(pieces)),
    "vocoder.n_samples": lambda frames, _: VOCODER.n_samples(frames),
    "vocoder.requires_grad_": lambda value, _: VOCODER.requires_grad_(value),
    "vocoder.stream": lambda pieces, _: list(VOCODER.stream().decode(pieces)),
    "vocoder.synthesize": lambda features, audio: VOCODER.synthesize(features, audio=audio),
    "vocoder.synthesize codes": lambda codes, _: VOCODER.synthesize(codes=codes),
    "vocoder.to": lambda device, dtype: VOCODER.to(device, dtype) if device is not None or dtype is not None else None,
}


@pytest.mark.parametrize("name", CALLS)
@fuzz
@given(ODD | arrays(), ODD | arrays())
def test_odd_calls(name: str, first: Any, second: Any) -> None:
    outcome(lambda: CALLS[name](first, second))


# What `make fuzz` has found.
FOUND = [
    ("ConventionCheck()", torch.zeros(1, 0, 1), None),
    ("ConventionCheck()", torch.zeros(1, 40, 7, device="meta"), None),
    ("LogMel()", torch.zeros(1, 3000).to_sparse(), None),
    ("LogMel()", torch.zeros(1, 3000, device="meta"), None),
    ("MelUnit", 0, -(2**63) - 1),
    ("MelUnit", -1e308, 0.0),
    ("convert_mel", MEL.to_sparse(), "ln"),
    ("convert_mel", np.zeros(1, np.float32)[::-1], "ln"),
    ("AudioClip", np.zeros(1, np.float32)[::-1], 8),
    ("AudioClip", np.zeros(1, ">f4"), 8000),
    ("vocoder.checked_features", MEL, MEL),
    ("vocoder.cuda", 128, None),
    ("vocoder.decode lengths", torch.zeros(2).to_sparse(), None),
    ("vocoder.decode lengths", torch.zeros(2, device="meta"), None),
    ("vocoder.mel_stream", torch.tensor(0.0), None),
    ("vocoder.mel_stream", np.zeros(1, np.float32)[::-1], None),
    ("vocoder.stream", np.array(0.0, np.float32), None),
    ("vocoder.synthesize", None, np.zeros(1, np.float32)[::-1]),
]


@pytest.mark.parametrize(("name", "first", "second"), FOUND)
def test_what_was_found(name: str, first: Any, second: Any) -> None:
    made = outcome(lambda: CALLS[name](first, second))
    assert not isinstance(made, torch.Tensor) or torch.isfinite(made.to_dense()).all()


def called() -> str:
    return "".join(Path(__file__).with_name(name).read_text("utf-8") for name in ("test_fuzz.py", "test_fuzz_calls.py"))


def test_every_public_name_is_called() -> None:
    values = {name: getattr(tts_infer, name) for name in tts_infer.__all__}
    public = {
        name
        for name, value in values.items()
        if inspect.isfunction(value) or (isinstance(value, type) and not issubclass(value, BaseException))
    }
    named = set(re.findall(r"\btts_infer\.(\w+)", called())) | set(ALONE)
    assert public - named == MADE, "call it here, or say that only the package makes it"


def test_every_method_of_a_vocoder_is_called() -> None:
    methods = {name for name, one in inspect.getmembers(tts_infer.Vocoder, callable) if not name.startswith("_")}
    assert methods - set(re.findall(r"VOCODER\.(\w+)", called())) == ALONE_OF_VOCODER


@pytest.mark.parametrize("name", ALONE)
def test_names_without_arguments(name: str) -> None:
    first, again = getattr(tts_infer, name)(), getattr(tts_infer, name)()
    assert first == again


def test_standard_input_is_bytes_or_refused() -> None:
    stream = outcome(lambda: tts_infer.standard_input())
    assert stream is None or callable(stream.read)
