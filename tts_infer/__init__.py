"""tts-infer: neural vocoders that just work. Mel spectrograms in, waveforms out, on any device, every stage timed.

vocoder = tts_infer.load_vocoder()
audio = vocoder.decode(mel)
"""

from typing import Any

import tts_infer.diagnose.doctor as doctor
import tts_infer.report.pictures as pictures
from tts_infer.batch.job import BatchReport, ExecutorName, synthesize_batch
from tts_infer.batch.manifest import Container
from tts_infer.config import DTypeName, MelConfig, VocoderPreset, known_vocoders
from tts_infer.deprecated import warn_renamed
from tts_infer.devices import available_devices, device_lock
from tts_infer.dsp.mel import LogMel, log_mel_error_db
from tts_infer.dsp.stft import ISTFT, STFT
from tts_infer.errors import (
    CheckpointError,
    ConfigError,
    FileError,
    InputError,
    InputTypeError,
    MissingPackageError,
    PlacementError,
    TTSInferError,
    VocoderNotFoundError,
)
from tts_infer.evaluation.evaluate import Evaluation, evaluate
from tts_infer.evaluation.systems import Candidate, candidates_of
from tts_infer.files import FileSynthesis, synthesize_file
from tts_infer.io.audio import AudioClip, read_audio, resample, to_int16
from tts_infer.io.features import read_features, read_mel
from tts_infer.io.sources import FEATURE_SUFFIXES, holds_features, require_file
from tts_infer.io.writer import SampleFormat, check_writable, wav_header, write_audio
from tts_infer.report.page import write_report
from tts_infer.runtime.placement import (
    MethodChoice,
    Placement,
    StagePlacement,
    clear_checks,
    make_placement,
    named_placements,
)
from tts_infer.runtime.selftest import STAGES, StageCheck
from tts_infer.streaming import StreamingDecoder, StreamingMel
from tts_infer.vocoder import Synthesis, Vocoder, load_vocoder
from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER

__all__ = [
    "DEFAULT_VOCODER",
    "FEATURE_SUFFIXES",
    "ISTFT",
    "STAGES",
    "STFT",
    "AudioClip",
    "BatchReport",
    "Candidate",
    "CheckpointError",
    "ConfigError",
    "Container",
    "DTypeName",
    "Evaluation",
    "ExecutorName",
    "FileError",
    "FileSynthesis",
    "InputError",
    "InputTypeError",
    "LogMel",
    "MelConfig",
    "MethodChoice",
    "MissingPackageError",
    "Placement",
    "PlacementError",
    "SampleFormat",
    "StageCheck",
    "StagePlacement",
    "StreamingDecoder",
    "StreamingMel",
    "Synthesis",
    "TTSInferError",
    "Vocoder",
    "VocoderNotFoundError",
    "VocoderPreset",
    "available_devices",
    "candidates_of",
    "check_writable",
    "clear_checks",
    "device_lock",
    "doctor",
    "evaluate",
    "holds_features",
    "known_vocoders",
    "load_vocoder",
    "log_mel_error_db",
    "make_placement",
    "named_placements",
    "pictures",
    "read_audio",
    "read_features",
    "read_mel",
    "require_file",
    "resample",
    "synthesize_batch",
    "synthesize_file",
    "to_int16",
    "wav_header",
    "write_audio",
    "write_report",
]

_RENAMED = {
    "EngineName": "ExecutorName",
    "KnownVocoder": "VocoderPreset",
    "exclusive": "device_lock",
    "forget_checks": "clear_checks",
}


def __getattr__(name: str) -> Any:
    """Old public names, for one release."""
    if name not in _RENAMED:
        raise AttributeError(f"module 'tts_infer' has no attribute {name!r}")
    warn_renamed(f"tts_infer.{name}", _RENAMED[name])
    return globals()[_RENAMED[name]]
