"""How good a vocoder is: recordings are copied, and each copy is measured against its original. And how fast.

evaluation = tts_infer.evaluate(["recordings"], [vocoder])
print(evaluation.means)
"""

from tts_infer.evaluation.comparison import FIGURES, Comparison
from tts_infer.evaluation.contestants import contestants
from tts_infer.evaluation.gate import FAILED, VERDICTS, Verdict, judge, load_evaluation
from tts_infer.evaluation.intervals import Interval
from tts_infer.evaluation.listening import (
    ANCHOR,
    REFERENCE,
    AbxResult,
    AbxTrial,
    MushraResult,
    MushraScore,
    abx_result,
    level_matched,
    listening_csv,
    listening_row,
    low_passed,
    mushra_result,
    read_listening_csv,
)
from tts_infer.evaluation.measures import MEASURES, Measure
from tts_infer.evaluation.pitch import PitchTracker
from tts_infer.evaluation.results import Evaluation, Row
from tts_infer.evaluation.run import evaluate, find_audio
from tts_infer.evaluation.systems import MAX_SECONDS, System, systems_of
from tts_infer.evaluation.turns import RUNS, compare

__all__ = [
    "ANCHOR",
    "FAILED",
    "FIGURES",
    "MAX_SECONDS",
    "MEASURES",
    "REFERENCE",
    "RUNS",
    "VERDICTS",
    "AbxResult",
    "AbxTrial",
    "Comparison",
    "Evaluation",
    "Interval",
    "Measure",
    "MushraResult",
    "MushraScore",
    "PitchTracker",
    "Row",
    "System",
    "Verdict",
    "abx_result",
    "compare",
    "contestants",
    "evaluate",
    "find_audio",
    "judge",
    "level_matched",
    "listening_csv",
    "listening_row",
    "load_evaluation",
    "low_passed",
    "mushra_result",
    "read_listening_csv",
    "systems_of",
]
