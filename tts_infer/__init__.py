"""tts-infer: neural vocoders that just work. Mel spectrograms in, waveforms out, on any device, every stage timed.

vocoder = tts_infer.load_vocoder()
audio = vocoder.decode(mel)
"""

from typing import Any

from tts_infer.imports import importing

with importing():
    import tts_infer.diagnose.doctor as doctor
    import tts_infer.evaluation as evaluation
    import tts_infer.report.pictures as pictures
    from tts_infer.arguments import called_as_stated
    from tts_infer.batch.job import BatchReport, ExecutorName, synthesize_batch
    from tts_infer.batch.manifest import Container
    from tts_infer.config import DTypeName, MelConfig, VocoderPreset, known_vocoders
    from tts_infer.decoding import Synthesis
    from tts_infer.deprecated import warn_renamed
    from tts_infer.devices import available_devices, device_lock, limit_memory, trim_memory
    from tts_infer.diagnose.catalogue import describe_vocoder, list_vocoders
    from tts_infer.dsp.conventions import CONVENTIONS, MEL_UNITS, MelUnit, convention_name, convert_mel
    from tts_infer.dsp.f0 import estimate_f0
    from tts_infer.dsp.istft import ISTFT
    from tts_infer.dsp.mel import LogMel, log_mel_error_db, mel_centres
    from tts_infer.dsp.mismatch import ConventionCheck, MelConventionWarning
    from tts_infer.dsp.stft import STFT
    from tts_infer.errors import (
        CheckpointError,
        ConfigError,
        ExportError,
        FileError,
        InputError,
        InputTypeError,
        MissingPackageError,
        PlacementError,
        TTSInferError,
        VocoderNotFoundError,
        VoiceNotFoundError,
    )
    from tts_infer.evaluation import Comparison, Evaluation, System, compare, contestants, evaluate, systems_of
    from tts_infer.export.browser import WebExport, export_web
    from tts_infer.export.graphs import ExportLayout, ExportSource
    from tts_infer.export.onnx import Export, export_onnx
    from tts_infer.export.rounding import RoundingCost
    from tts_infer.export.weights import ExportDType
    from tts_infer.files import FileSynthesis, features_of_file, synthesize_file
    from tts_infer.frontends import find_voice, list_voices
    from tts_infer.frontends.frontend import Voice
    from tts_infer.io.audio import AudioClip, AudioWarning, read_audio, read_blocks, resample, to_int16
    from tts_infer.io.feature_files import read_features, read_mel
    from tts_infer.io.inputs import require_input, standard_input
    from tts_infer.io.notes import Note, SignalMeter, notes_of_output
    from tts_infer.io.sources import FEATURE_SUFFIXES, holds_features, require_file
    from tts_infer.io.text import read_text
    from tts_infer.io.writer import SampleFormat, check_writable, wav_header, write_audio
    from tts_infer.live import LiveAudio, live_speech
    from tts_infer.loading import DTypeChoice, load_vocoder
    from tts_infer.report.comparison import write_comparison
    from tts_infer.report.evaluation import write_report
    from tts_infer.report.page import check_report
    from tts_infer.runtime.choice import Place, clear_checks
    from tts_infer.runtime.placement import MethodChoice, Placement, make_placement
    from tts_infer.runtime.selftest import StageCheck
    from tts_infer.runtime.spec import named_placements
    from tts_infer.sentences import Sentence, Several
    from tts_infer.server import serve
    from tts_infer.server.application import ServerApp
    from tts_infer.server.catalogue import load_speakers
    from tts_infer.server.guard import GuardedApp
    from tts_infer.server.settings import ServerSettings
    from tts_infer.speaker import Speaker, load_speaker, speak, speak_stream
    from tts_infer.speech import Speech, SpeechReport, SpeechStream, TextLeftOutWarning
    from tts_infer.streaming import StreamingDecoder, StreamingMel
    from tts_infer.vocoder import Vocoder
    from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER
    from tts_infer.warm import warm_up

__all__ = [
    "CONVENTIONS",
    "DEFAULT_VOCODER",
    "FEATURE_SUFFIXES",
    "ISTFT",
    "MEL_UNITS",
    "STFT",
    "AudioClip",
    "AudioWarning",
    "BatchReport",
    "CheckpointError",
    "Comparison",
    "ConfigError",
    "Container",
    "ConventionCheck",
    "DTypeChoice",
    "DTypeName",
    "Evaluation",
    "ExecutorName",
    "Export",
    "ExportDType",
    "ExportError",
    "ExportLayout",
    "ExportSource",
    "FileError",
    "FileSynthesis",
    "GuardedApp",
    "InputError",
    "InputTypeError",
    "LiveAudio",
    "LogMel",
    "MelConfig",
    "MelConventionWarning",
    "MelUnit",
    "MethodChoice",
    "MissingPackageError",
    "Note",
    "Place",
    "Placement",
    "PlacementError",
    "RoundingCost",
    "SampleFormat",
    "Sentence",
    "ServerApp",
    "ServerSettings",
    "Several",
    "SignalMeter",
    "Speaker",
    "Speech",
    "SpeechReport",
    "SpeechStream",
    "StageCheck",
    "StreamingDecoder",
    "StreamingMel",
    "Synthesis",
    "System",
    "TTSInferError",
    "TextLeftOutWarning",
    "Vocoder",
    "VocoderNotFoundError",
    "VocoderPreset",
    "Voice",
    "VoiceNotFoundError",
    "WebExport",
    "available_devices",
    "check_report",
    "check_writable",
    "clear_checks",
    "compare",
    "contestants",
    "convention_name",
    "convert_mel",
    "describe_vocoder",
    "device_lock",
    "doctor",
    "estimate_f0",
    "evaluate",
    "evaluation",
    "export_onnx",
    "export_web",
    "features_of_file",
    "find_voice",
    "holds_features",
    "known_vocoders",
    "limit_memory",
    "list_vocoders",
    "list_voices",
    "live_speech",
    "load_speaker",
    "load_speakers",
    "load_vocoder",
    "log_mel_error_db",
    "make_placement",
    "mel_centres",
    "named_placements",
    "notes_of_output",
    "pictures",
    "read_audio",
    "read_blocks",
    "read_features",
    "read_mel",
    "read_text",
    "require_file",
    "require_input",
    "resample",
    "serve",
    "speak",
    "speak_stream",
    "standard_input",
    "synthesize_batch",
    "synthesize_file",
    "systems_of",
    "to_int16",
    "trim_memory",
    "warm_up",
    "wav_header",
    "write_audio",
    "write_comparison",
    "write_report",
]

for _name in __all__:
    globals()[_name] = called_as_stated(globals()[_name])

_RENAMED = {
    "Candidate": "System",
    "EngineName": "ExecutorName",
    "KnownVocoder": "VocoderPreset",
    "StagePlacement": "Place",
    "candidates_of": "systems_of",
    "exclusive": "device_lock",
    "forget_checks": "clear_checks",
}
_STAGES = ("mel", "backbone", "head", "istft")


def __getattr__(name: str) -> Any:
    """Old public names, for one release."""
    if name == "STAGES":
        warn_renamed("tts_infer.STAGES", "the names in `vocoder.stages`")
        return _STAGES
    if name not in _RENAMED:
        raise AttributeError(f"module 'tts_infer' has no attribute {name!r}")
    warn_renamed(f"tts_infer.{name}", _RENAMED[name])
    return globals()[_RENAMED[name]]
