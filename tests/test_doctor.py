"""The doctor says what is there, what runs where and why; its audit is what `--audit mps` exits by."""

from __future__ import annotations

import html
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

import tts_infer
from tts_infer.cli import main
from tts_infer.diagnose import doctor
from tts_infer.diagnose.audit import StageAudit
from tts_infer.diagnose.doctor import _as_json
from tts_infer.runtime.selftest import StageCheck, StageTrial
from tts_infer.sentences import Sentence
from ui.device import draw_report
from ui.texts import Translator

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def report() -> dict[str, object]:
    return doctor.examine("cpu")


def test_report(report: dict[str, dict[str, dict[str, object]]]) -> None:
    assert report["versions"]["torch"] == torch.__version__
    assert list(report["devices"]) == list(tts_infer.available_devices())
    assert list(report["placement"]) == ["mel", "backbone", "head", "refine", "istft"]
    chosen = tts_infer.make_placement(device="cpu")
    for stage, place in chosen.items():
        shown = report["placement"][stage]
        assert (shown["device"], shown["engine"]) == ("cpu", place.engine)
        assert shown["method"] == place.method or place.engine
    assert report["vocoders"][tts_infer.DEFAULT_VOCODER] == "embedded"
    assert set(report["vocoders"]) == set(tts_infer.known_vocoders())
    checks = list(report["checks"])
    assert {(c["stage"], c["method"]) for c in checks} >= {("mel", "fft"), ("istft", "matmul"), ("backbone", "torch")}  # type: ignore[index]
    json.dumps(report)


def test_text_says_the_same(report: dict[str, dict[str, dict[str, object]]]) -> None:
    text = doctor.report_text(report)
    for stage, place in report["placement"].items():
        assert f"{stage:<10}{place['device']:<10}{place['method']:<10}{place['reason']}" in text
    assert f"torch {torch.__version__}" in text and "libsndfile" in text


def test_command_line_prints_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"versions", "devices", "placement", "checks", "advice"}
    seen, real = list[str](), StageTrial.check
    monkeypatch.setattr(StageTrial, "check", lambda trial: seen.append(trial.stage.name) or real(trial))  # type: ignore[func-returns-value]
    tts_infer.make_placement(device="cpu")
    assert not seen
    assert main(["doctor", "--device", "cpu", "--no-cache", "--json"]) == 0
    assert {"mel", "istft"} <= set(seen)
    assert main(["doctor", "--device", "tpu"]) == 2
    assert "device 'tpu' is unknown" in capsys.readouterr().err


def test_audit_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--audit", "mps"]) == 0
    out = capsys.readouterr().out
    assert "missing: unfold_backward" in out  # of the official package
    assert out.endswith("default path (matmul): clean in every release\n")


def test_audit_fails_on_what_is_not_clean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = StageAudit("matmul", "istft", "2.4.1", ("mm", "col2im"), ("col2im",), (), (), ())
    clean = replace(row, operators=("mm",), missing=())
    assert clean.clean and not row.clean
    monkeypatch.setattr(doctor, "audit_stages", lambda: [row, replace(clean, release="2.8.0")])
    assert main(["doctor", "--audit", "mps", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["clean"] is False
    assert "2.4.1" in doctor.audit_text([row]) and "NOT clean" in doctor.audit_text([row])


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has an MPS device")
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "not set"),
        ({"PYTORCH_ENABLE_MPS_FALLBACK": "1"}, "set to '1'; no effect, since this machine has no MPS device"),
        ({"PYTOCH_ENABLE_MPS_FALLBACK": "1"}, "not set; PYTOCH_ENABLE_MPS_FALLBACK is misspelt, and ignored"),
    ],
)
def test_fallback_variable(environment: dict[str, str], said: str) -> None:
    assert doctor.fallback_report(environment) == said


def test_hub_cache_is_looked_at_without_network(tmp_path: Path) -> None:
    """A vocoder whose files lie in the cache is "cached", one whose config alone lies there is not."""
    for repo, files in {
        "charactr/vocos-mel-24khz": ["config.yaml", "pytorch_model.bin"],
        "BSC-LT/vocos-mel-22khz": ["config.yaml"],
    }.items():
        folder = tmp_path / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        snapshot = folder / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        for name in files:
            (snapshot / name).write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-m", "tts_infer", "doctor", "--device", "cpu", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    vocoders = json.loads(done.stdout)["vocoders"]
    assert (vocoders["vocos-mel-24khz"], vocoders["vocos-mel-22khz"]) == ("cached", "not cached")


def test_what_is_not_finite_is_null() -> None:
    check = StageCheck("istft", torch.device("cpu"), "torch", "fft", math.nan, 1e-4, 1.0)
    assert json.loads(json.dumps(_as_json(check), allow_nan=False))["error"] is None


def test_the_page_says_no_reason_in_english(report: dict[str, Any]) -> None:
    said = [place["reason"] for place in report["placement"].values()] + report["advice"] + [report["fallback"]]
    said += [word for dtypes in report["devices"].values() for word in dtypes.values() if word != "fast"]
    wrong = {**report["checks"][0], "passed": False, "failure": Sentence("asked for", code="asked-for")}
    drawn = draw_report(
        {**report, "checks": [*report["checks"], wrong]}, gr.Request(headers={"accept-language": "zh-CN"})
    )
    for sentence in (*said, wrong["failure"]):
        assert isinstance(sentence, Sentence), sentence
        assert html.escape(sentence) not in drawn
        assert html.escape(Translator("zh").sentence(sentence)) in drawn
    words = set(re.findall(r"(?<![\w.-])[a-z]{2,}(?![\w.-])", re.sub(r"<[^>]*>|https?:\S*", " ", drawn)))
    names = {*report["placement"], *report["versions"], *tts_infer.known_vocoders(), "cpu", "fft", "matmul", "torch"}
    assert words <= names | {"onednn", "onnxruntime", "openvino", "numpy"}
