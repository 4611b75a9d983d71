"""The precision of networks: measured, proved, and float32 where bfloat16 does not pay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tts_infer
from tts_infer.devices import CPU, dtype_refusal
from tts_infer.runtime import kept, precision, workers
from tts_infer.runtime.choice import BUSY, clear_checks
from tts_infer.runtime.selftest import StageCheck, StageTrial
from tts_infer.vocoders import usual_stages

needs_bfloat16 = pytest.mark.skipif(dtype_refusal(CPU, "bfloat16") is not None, reason="no bfloat16 instructions")


@pytest.fixture(autouse=True)
def _measured_anew() -> Iterator[None]:
    clear_checks()
    yield
    clear_checks()


@needs_bfloat16
@pytest.mark.parametrize(("slower_on", "best"), [(None, "bfloat16"), ("few", "float32"), ("many", "float32")])
def test_it_must_be_faster_on_every_length(slower_on: str | None, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast the machine is, is said here; everything else is real."""

    def told(trial: StageTrial) -> float:
        return 1.0 if trial.dtype == "float32" else 1.5 if trial.size == slower_on else 0.5

    monkeypatch.setattr(StageTrial, "once_ms", told)
    dtype, reason = precision.best_dtype(usual_stages(), CPU)
    assert dtype == best and "2.00 on usual frames" in reason
    assert tts_infer.load_vocoder(device="cpu", dtype="auto").dtype == best


@needs_bfloat16
def test_wrong_products_are_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(trial: StageTrial) -> StageCheck:
        return StageCheck(trial.stage.name, CPU, trial.engine, "", 0.5, 0.05, 0.1)

    monkeypatch.setattr(StageTrial, "check", wrong)
    dtype, reason = precision.best_dtype(usual_stages(), CPU)
    assert dtype == "float32" and "differs from the CPU by 5.0e-01 of the peak" in reason


def test_a_busy_machine_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is known
    monkeypatch.setattr(precision, "dtype_refusal", lambda device, dtype: None)
    monkeypatch.setattr(StageTrial, "once_ms", lambda trial: pytest.fail("it was measured"))
    monkeypatch.setattr(workers, "is_disturbed", lambda: True)
    for _ in range(2):  # now, and in the next process
        dtype, reason = precision.best_dtype(usual_stages(), CPU)
        assert dtype == "float32" and reason == BUSY
        kept._answers.clear()
        kept._ignored = False


@needs_bfloat16
def test_what_was_measured_outlives_a_busy_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(StageTrial, "once_ms", lambda trial: 1.0 if trial.dtype == "float32" else 0.5)
    assert precision.best_dtype(usual_stages(), CPU)[0] == "bfloat16"
    clear_checks()
    monkeypatch.setattr(workers, "is_disturbed", lambda: True)
    assert precision.best_dtype(usual_stages(), CPU)[0] == "float32"
    kept._answers.clear()
    kept._ignored = False
    assert precision.best_dtype(usual_stages(), CPU)[0] == "bfloat16"


def test_where_it_is_no_use_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "dtype_refusal", lambda device, dtype: "slow on this CPU")
    monkeypatch.setattr(StageTrial, "once_ms", lambda trial: pytest.fail("it was measured"))
    assert precision.best_dtype(usual_stages(), CPU) == ("float32", "bfloat16 is slow on this CPU")


def test_no_cache_measures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tts_infer.load_vocoder(device="cpu")
    seen: list[str] = []
    real = StageTrial.check
    monkeypatch.setattr(StageTrial, "check", lambda trial: seen.append(trial.stage.name) or real(trial))  # type: ignore[func-returns-value]
    tts_infer.load_vocoder(device="cpu")
    assert seen == []
    tts_infer.load_vocoder(device="cpu", cache=False)
    assert {"mel", "istft"} <= set(seen)


@pytest.mark.parametrize("size", ["few", "usual", "many"])
def test_trials_of_every_size_are_proved(size: str) -> None:
    for stage in (stage for stage in usual_stages() if stage.half):
        check = StageTrial(stage, CPU, "onednn").on(size).check()  # type: ignore[arg-type]
        assert check.passed and check.error < 1e-5  # float32 sums in another order
