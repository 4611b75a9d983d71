"""Placements are obeyed or refused; what they leave open is chosen from what is right."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.emulated_device import emulated
from tts_infer.devices import CPU, available_devices
from tts_infer.errors import ConfigError, PlacementError
from tts_infer.runtime import kept, workers
from tts_infer.runtime.choice import _measured, clear_checks
from tts_infer.runtime.placement import Placement, _request, make_placement
from tts_infer.runtime.selftest import StageTrial
from tts_infer.runtime.spec import named_placements
from tts_infer.vocoders import usual_stages

no_accelerator = pytest.mark.skipif(len(available_devices()) > 1, reason="this machine has an accelerator")


@pytest.fixture(autouse=True)
def _nothing_checked_yet() -> Iterator[None]:
    clear_checks()
    yield
    clear_checks()


def devices(placement: Placement) -> dict[str, str]:
    return {stage: str(place.device) for stage, place in placement.items()}


def test_all_spellings_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{mel: cpu/fft, istft: cpu/matmul}")
    stated = {"mel": "cpu/fft", "istft": "cpu/matmul"}
    rest = make_placement(device="cpu")
    backbone, head = rest["backbone"], rest["head"]
    text = f"mel=cpu/fft,backbone={backbone},head={head},refine=cpu/matmul,istft=cpu/matmul"
    placements = [
        make_placement(stated, "cpu"),
        make_placement("mel=cpu/fft, istft=cpu/matmul", "cpu"),
        make_placement(file, "cpu"),
        make_placement(str(file), "cpu"),
        make_placement(None, "cpu", mel="fft", istft="matmul"),
        make_placement(text),
    ]
    assert {str(placement) for placement in placements} == {text}
    assert make_placement(placements[0], "nowhere") == placements[0]


def test_named_placements() -> None:
    assert set(named_placements()) == {"cpu", "accelerator", "istft-on-cpu", "spectral-on-cpu", "graphs"}
    with emulated():
        on = {name: devices(make_placement(name, "emu", check=False)) for name in ("istft-on-cpu", "spectral-on-cpu")}
    there, here = {"backbone": "emu:0", "head": "emu:0"}, {"refine": "cpu", "istft": "cpu"}
    assert on["istft-on-cpu"] == {"mel": "emu:0", **there, **here}
    assert on["spectral-on-cpu"] == {
        "mel": "cpu",
        "backbone": "emu:0",
        "head": "emu:0",
        "refine": "cpu",
        "istft": "cpu",
    }
    assert set(devices(make_placement("cpu")).values()) == {"cpu"}


@no_accelerator
def test_accelerator_is_refused_without_one() -> None:
    with pytest.raises(PlacementError, match="this machine has none"):
        make_placement("accelerator")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fast", "unknown; give stage=device"),
        ("vocoder=cpu", "the stage 'vocoder'; the stages are: mel, backbone, head, refine, istft"),
        ({"mel": 3}, "mapping of stage names"),
        ("mel=tpu", "device 'tpu' is unknown"),
        ("mel=emu:7", "device 'emu:7' is not available"),
        ("mel=cpu/conv", "'mel' is placed by 'conv'; allowed: auto, .*, matmul, fft"),
        ("head=cpu/fft", "'head' is placed by 'fft'; allowed: auto, onednn, torch"),
        ("head=emu/onednn", "engine of 'head' is 'onednn', but oneDNN computes on the CPU, not on emu:0; use 'torch'"),
        ("mel=cpu/onednn", "engine of 'mel' is 'onednn', but oneDNN has no packed form of LogMel; use 'torch'"),
        ("head=cpu/cuda_graphs", "engine of 'head' is 'cuda_graphs', but torch has no graphs for cpu; use 'torch'"),
        ("head=emu/cuda_graphs", "engine of 'head' is 'cuda_graphs', but torch has no graphs for emu; use 'torch'"),
    ],
)
def test_mistakes(spec: object, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        make_placement(spec)  # type: ignore[arg-type]


def test_an_engine_is_refused_for_what_networks_lack() -> None:
    pytest.importorskip("openvino")
    with pytest.raises(
        PlacementError, match="engine 'openvino' can run no stage: OpenVINO computes in .*, not in float16"
    ):
        make_placement(device="cpu", engine="openvino", dtype="float16")


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="'fft', but 'matmul' is asked for as well"):
        make_placement("istft=cpu/fft", istft="matmul")
    with pytest.raises(ConfigError, match="cannot read"):
        make_placement(tmp_path / "none.yaml")
    with pytest.raises(PlacementError, match="dtype 'float16' is slow and incomplete on the CPU"):
        make_placement(device="cpu", dtype="float16")
    with pytest.raises(PlacementError, match="engine 'cuda_graphs' can run no stage: torch has no graphs for cpu"):
        make_placement(device="cpu", engine="cuda_graphs")
    with pytest.raises(PlacementError, match="dtype 'bfloat16' is not supported on emu:0"):
        make_placement(device="emu", dtype="bfloat16")


def test_cpu_chooses_between_right_methods() -> None:
    placement = Placement.auto("cpu")
    for stage in ("mel", "istft"):
        place = placement[stage]
        assert place.check is not None and place.check.passed
        assert place.check.method == place.method
        assert "ms against" in place.reason
    assert make_placement("backbone=cpu/torch")["backbone"].reason == "asked for"


def test_checks_are_kept_for_the_process() -> None:
    with emulated() as device:
        first = Placement.auto("emu")
        device.transfers.clear()
        assert Placement.auto("emu") == first
        assert device.transfers == []
        clear_checks()
        Placement.auto("emu")
        assert device.transfers != []


def test_checks_are_skipped_on_request() -> None:
    with emulated(corrupt="gelu") as device:
        placement = Placement.auto("emu", check=False)
        assert device.transfers == []
    assert devices(placement)["backbone"] == "emu:0"
    assert placement["backbone"].reason == "preferred there; not checked"
    assert (placement["mel"].method, placement["istft"].method) == ("matmul", "matmul")


@pytest.mark.parametrize(("operator", "stage"), [("gelu", "backbone"), ("sin", "head")])
def test_a_wrong_stage_goes_to_the_cpu_with_one_warning(operator: str, stage: str) -> None:
    with emulated(corrupt=operator), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        placement = Placement.auto("emu")
        assert Placement.auto("emu") == placement
    assert devices(placement) == {s: "cpu" if s == stage else "emu:0" for s in placement}
    assert placement[stage].engine == Placement.auto("cpu")[stage].engine
    (warning,) = caught
    error = placement[stage].check.error  # type: ignore[union-attr]
    assert str(warning.message) == (
        f"stage '{stage}' goes to the CPU: {stage} on emu:0 by torch differs from the CPU by {error:.1e} of the peak "
        "(allowed 2e-03)"
    )


def test_a_missing_operator_sends_its_stage_to_the_cpu() -> None:
    with emulated(refuse="gelu"), pytest.warns(UserWarning, match="'aten::gelu' is not currently implemented"):
        placement = Placement.auto("emu")
    assert devices(placement)["backbone"] == "cpu"


def test_a_wrong_method_leaves_the_other() -> None:
    with emulated(corrupt="_fft_c2r"):
        placement = Placement.auto("emu")
    assert (str(placement["istft"].device), placement["istft"].method) == ("emu:0", "matmul")
    assert "istft on emu:0 by fft differs from the CPU" in placement["istft"].reason


def test_what_is_stated_is_never_bent() -> None:
    with emulated(refuse="_fft_c2r", corrupt="bmm"):
        assert str(make_placement("istft=emu/matmul", "cpu")["istft"].device) == "emu:0"  # obeyed
        with pytest.raises(PlacementError, match="istft on emu:0 by matmul differs .* place this stage on 'cpu'"):
            make_placement("istft=emu", "cpu")
        with pytest.warns(UserWarning, match="'istft' goes to the CPU"):
            assert make_placement(None, "emu", mel="matmul", istft="fft")["istft"].device == CPU


def test_speed_decides_only_where_no_device_is_named() -> None:
    """An accelerator much slower than the CPU keeps its stages if it was named, and loses them if not."""
    with emulated(linger_s=0.001):
        istft = next(stage for stage in usual_stages() if stage.name == "istft")
        request = _request(istft, {}, {}, "emu", "float32", None)
        assert str(_measured(request).device) == "emu:0"
        left = _measured(replace(request, any_device=True))
    assert left.device == CPU
    assert "ms against" in left.reason and "on emu:0 by matmul" in left.reason


def test_a_made_placement_is_obeyed_too() -> None:
    made = make_placement(device="cpu", istft="fft")
    assert make_placement(made) == make_placement(made, istft="fft") == made
    with pytest.raises(PlacementError, match="stage 'istft' is placed with method 'fft', but 'matmul' is asked for"):
        make_placement(made, istft="matmul")


def test_more_mistakes() -> None:
    with pytest.raises(PlacementError, match="method of 'mel' is None; allowed: "):
        make_placement(device="cpu", mel=None)  # type: ignore[arg-type]
    with pytest.raises(PlacementError, match="'mel=cpu/fft,mel=cpu/matmul' names a stage twice"):
        make_placement("mel=cpu/fft,mel=cpu/matmul")


def test_choices_of_a_cpu_are_kept_for_other_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept, "_ignored", False)
    measured = make_placement(device="cpu")
    assert measured["istft"].check is not None  # by this very process
    entries = json.loads(kept.file().read_text())
    assert all(set(entry) == kept.FIELDS for entry in entries.values()) and len(entries) >= 2
    monkeypatch.setattr(kept, "_answers", {})  # as in another process
    monkeypatch.setattr("tts_infer.runtime.choice._measured", lambda request: pytest.fail("it was measured again"))
    remembered = make_placement(device="cpu")
    assert str(remembered) == str(measured)
    assert remembered["istft"].check is None and remembered["istft"].reason.endswith("; measured before")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10_000, '{"x": {"engine": 3}}'])
def test_a_damaged_file_of_choices_is_as_good_as_none(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept, "_ignored", False)
    kept.file().parent.mkdir()
    kept.file().write_text(text)
    assert make_placement(device="cpu")["mel"].check is not None
    assert len(json.loads(kept.file().read_text())) >= 1


def test_choices_that_this_release_does_not_know_are_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept, "_ignored", False)
    make_placement(device="cpu")
    entries = json.loads(kept.file().read_text())
    kept.file().write_text(json.dumps({name: {**entry, "engine": "abacus"} for name, entry in entries.items()}))
    monkeypatch.setattr(kept, "_answers", {})
    assert make_placement(device="cpu")["istft"].engine == "torch"


def test_a_cache_folder_that_cannot_be_made_is_no_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(kept, "_ignored", False)
    assert make_placement(device="cpu")["istft"].engine == "torch"


def test_what_fails_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fault of one process - a broken library, a full memory - must not outlive it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept, "_ignored", False)
    monkeypatch.setattr("tts_infer.runtime.selftest.relative_error", lambda got, expected: float("nan"))
    with pytest.warns(UserWarning, match="goes to the CPU"):
        make_placement(device="cpu")
    assert not kept.file().exists()


def test_a_busy_machine_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Threads wait for what other processes do at that moment, and the answer would be kept for good."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept, "_ignored", False)
    monkeypatch.setattr(StageTrial, "check", lambda trial: pytest.fail("it was measured"))
    monkeypatch.setattr(workers._others, "are_busy", lambda: True)
    monkeypatch.setattr(workers._others, "cores", 1.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    placement = make_placement(device="cpu")
    assert [place.method or place.engine for place in placement.values()] == ["fft", "onednn", "onednn", "fft", "fft"]
    assert placement["istft"].reason == "preferred there; not measured, because other processes compute"
    monkeypatch.setattr(kept, "_answers", {})  # as in another process, while nobody disturbs
    monkeypatch.setattr(workers._others, "are_busy", lambda: False)
    assert str(make_placement(device="cpu")) == str(placement)  # a batch that goes on there has the same bits
