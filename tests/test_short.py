"""Short whole signals by one graph: chosen where it is faster, right, and never where it is not."""

from __future__ import annotations

import copy
import itertools
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tts_infer
from tests.gan import KINDS, MELS, SIZES, official_weights, save
from tts_infer.engines import ENGINES
from tts_infer.engines.chains import Decode
from tts_infer.engines.onnxruntime import OnnxRuntimeEngine, Session
from tts_infer.errors import PlacementError
from tts_infer.runtime import kept, short, workers
from tts_infer.runtime.placement import make_placement
from tts_infer.stages import Stage, Tensors, relative_error
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import usual_stages

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'tts-infer[onnx]'")
STATED = "short=cpu/onnxruntime/48"
# The trained network magnifies the rounding of float32, see `test_onnxruntime.py`.
TOLERANCE = 5e-5


@pytest.fixture
def _measured_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(OnnxRuntimeEngine, "shortens", True)
    monkeypatch.setattr(short, "_behind_torch", lambda decode, features: 0.0)
    tts_infer.clear_checks()
    yield
    tts_infer.clear_checks()


@pytest.fixture(scope="module")
def ours() -> Vocoder:
    return tts_infer.load_vocoder(device="cpu", placement=STATED, refine=0)


@pytest.fixture(scope="module")
def mel(vocoder: Vocoder, speech: Tensor) -> Tensor:
    return vocoder.mel(speech)


def rows(vocoder: Vocoder, mel: Tensor, refine: int = 0) -> dict[str, str]:
    return {row["stage"]: row["engine"] for row in vocoder.synthesize(mel, refine=refine).stages}


def loaded(placement: str) -> Vocoder:
    return tts_infer.load_vocoder(device="cpu", placement=placement, refine=0)


@pytest.mark.usefixtures("_measured_anew")
def test_it_is_chosen_where_it_is_faster(mel: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is faster is the machine's affair; here it is said, and everything else is real."""
    monkeypatch.setattr(short, "MARGIN", 0.0)
    chosen = tts_infer.load_vocoder(device="cpu", refine=0)
    text = str(chosen.placement)
    assert text.endswith(",short=cpu/onnxruntime/94")
    assert chosen.placement.short is not None
    assert chosen.placement.short.reason.startswith("one graph by onnxruntime: ")
    assert list(rows(chosen, mel[..., :94])) == ["backbone+head+istft"]
    stated = loaded(text)
    assert str(stated.placement) == text
    assert torch.equal(stated.decode(mel[..., :10]), chosen.decode(mel[..., :10]))


@pytest.mark.usefixtures("_measured_anew")
def test_what_was_measured_is_kept(
    vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path))
    monkeypatch.setattr(kept, "_ignored", False)
    monkeypatch.setattr(short, "MARGIN", 0.0)
    about = usual_stages(), vocoder.placement, "float32"
    measured = short.choose(*about)  # type: ignore[arg-type]
    monkeypatch.setattr(kept, "_answers", {})  # as in another process
    monkeypatch.setattr(short, "_measured", lambda *about: pytest.fail("it was measured again"))
    remembered = short.choose(*about)  # type: ignore[arg-type]
    assert measured is not None and remembered is not None
    assert (str(remembered), remembered.reason) == (str(measured), f"{measured.reason}; measured before")


@pytest.mark.usefixtures("_measured_anew")
def test_it_is_not_chosen_where_it_is_slower(vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "MARGIN", 1e9)
    assert short.choose(usual_stages(), vocoder.placement, "float32") is None


@pytest.mark.usefixtures("_measured_anew")
def test_it_is_not_chosen_where_torchs_threads_slow_it_down(vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    times = itertools.cycle([1.0, 2.0])  # of the stages, of the graph
    monkeypatch.setattr(short, "MARGIN", 0.0)
    monkeypatch.setattr(short, "_behind_torch", lambda decode, features: next(times))
    assert short.choose(usual_stages(), vocoder.placement, "float32") is None


@pytest.mark.usefixtures("_measured_anew")
def test_a_wrong_graph_is_never_chosen(vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "MARGIN", 0.0)
    right = Session.__call__
    monkeypatch.setattr(Session, "__call__", lambda session, *inputs: tuple(0 * x for x in right(session, *inputs)))
    assert short.choose(usual_stages(), vocoder.placement, "float32") is None


@pytest.mark.parametrize(
    "how", [{"istft": "fft"}, {"engine": "torch"}, {"spec": "head=cpu/torch"}, {"spec": "short=none"}, {"check": False}]
)
def test_what_is_stated_is_obeyed(how: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "choose", lambda *about: pytest.fail("it was chosen"))
    assert make_placement(device="cpu", **how).short is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 2), (1, 3), (1, 10), (1, 48), (3, 1), (3, 16)])
def test_every_length_and_batch(batch: int, frames: int, ours: Vocoder, vocoder: Vocoder, mel: Tensor) -> None:
    some = torch.cat([mel[..., 40 * i : 40 * i + frames] for i in range(batch)])
    assert list(rows(ours, some)) == ["backbone+head+istft"]
    got, expected = ours.decode(some), vocoder.decode(some)
    assert got.shape == expected.shape and (not expected.numel() or relative_error(got, expected) < TOLERANCE)


def test_everything_else_runs_stage_by_stage(ours: Vocoder, vocoder: Vocoder, mel: Tensor) -> None:
    assert list(rows(ours, mel[..., :49])) == ["backbone", "head", "istft"]
    assert list(rows(ours, mel[..., :10], refine=2)) == ["backbone", "head", "refine", "istft"]
    assert torch.equal(ours.decode(mel[..., :49]), vocoder.decode(mel[..., :49]))
    items = [mel[0, :, :10], mel[0, :, 5:12]]
    pairs = zip(ours.decode(items), vocoder.decode(items), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    pieces = [torch.cat(list(one.stream().decode(mel[..., :30].split(10, dim=2))), dim=1) for one in (ours, vocoder)]
    assert torch.equal(*pieces)


def test_a_busy_machine_does_not_change_a_bit(ours: Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = ours.decode(mel[..., :48])
    monkeypatch.setattr(workers._others, "are_busy", lambda: True)
    assert torch.equal(ours.decode(mel[..., :48]), quiet)


@pytest.mark.alone
@pytest.mark.skipif(torch.get_num_threads() < 2, reason="one thread has nobody to wait for")
def test_threads_sleep_between_calls(ours: Vocoder, mel: Tensor) -> None:
    """Those that spin keep a core from torch's own: its next product took three times as long."""
    spent = []
    for _ in range(20):
        ours.decode(mel[..., :48])
        start = time.process_time()
        time.sleep(0.02)
        spent.append(time.process_time() - start)
    assert statistics.median(spent) < 0.002  # one that spins takes 14 ms


def test_a_copy_of_a_vocoder(ours: Vocoder, mel: Tensor) -> None:
    assert torch.equal(copy.deepcopy(ours).decode(mel[..., :10]), ours.decode(mel[..., :10]))


def test_half_precision_is_no_less_exact(vocoder: Vocoder, mel: Tensor) -> None:
    half = tts_infer.load_vocoder(device="cpu", dtype="bfloat16", placement=STATED, refine=0)
    assert relative_error(half.decode(mel[..., :10]), vocoder.decode(mel[..., :10])) < TOLERANCE


def test_a_graph_that_is_wrong_with_these_weights_is_not_used(
    vocoder: Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Session.__call__

    def wrong(session: Session, *inputs: Tensor) -> Tensors:
        return tuple(1.1 * x for x in right(session, *inputs))

    monkeypatch.setattr(Session, "__call__", wrong)
    chosen = loaded(STATED)
    with pytest.warns(UserWarning, match=r"stage by stage, because their graph fails: it differs by 1.0e-01"):
        audio = chosen.decode(mel[..., :10])
    assert torch.equal(audio, vocoder.decode(mel[..., :10]))
    assert torch.equal(chosen.decode(mel[..., 5:15]), vocoder.decode(mel[..., 5:15]))  # and no second warning


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes(ours: Vocoder, mel: Tensor) -> None:
    expected = ours.decode(mel[..., :10])
    child = os.fork()
    if child == 0:
        error = relative_error(ours.decode(mel[..., :10]), expected)
        os._exit(0 if error < TOLERANCE else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yes", "placement states short='yes'; allowed: none, or cpu/ENGINE/FRAMES such as cpu/onnxruntime/16"),
        ("cpu/onnxruntime", "short='cpu/onnxruntime'; allowed"),
        ("cpu/onnxruntime/0", "short='cpu/onnxruntime/0'; allowed"),
        ("cuda/onnxruntime/10", "short='cuda/onnxruntime/10'; allowed"),
        ("cpu/abacus/10", "short='cpu/abacus/10'; allowed"),
        ("cpu/onednn/10", "'onednn' cannot run short signals as one graph: it runs stage by stage; use short=none"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(PlacementError) as caught:
        make_placement(f"short={text}", device="cpu")
    assert message in str(caught.value)


def test_what_has_no_graph() -> None:
    backbone, *rest = short.decoding_chain(usual_stages())
    conditioned = replace(backbone, takes=(*backbone.takes, "bandwidth_id"))
    assert short._unusable("onnxruntime", [conditioned, *rest]) == "the stage backbone takes more than features"
    assert short._unusable("onnxruntime", [backbone]) == "no stages make audio of features"
    assert short._unusable("onnxruntime", []) == "no stages make audio of features"


def test_every_graph_engine_can(vocoder: Vocoder, mel: Tensor) -> None:
    for name in ("onnxruntime", "openvino"):
        if ENGINES[name].package and short._unusable(name, short.decoding_chain(vocoder._pipeline.stages)) is None:
            chosen = loaded(f"short=cpu/{name}/48")
            assert relative_error(chosen.decode(mel[..., :20]), vocoder.decode(mel[..., :20])) < TOLERANCE


@pytest.mark.usefixtures("_measured_anew")
def test_engines_try_one_model_and_the_stages_are_timed_once(vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first load on a machine waits for all of this."""
    monkeypatch.setattr(short, "MARGIN", 0.0)
    monkeypatch.setattr(short, "_usable", lambda chain: ["onnxruntime", "onnxruntime"])
    exported, timed = Counter[str](), Counter[int]()
    export_chain, milliseconds = short.export_chain, short._ms

    def counted(decode: Decode, features: Tensor) -> float:
        timed[features.shape[2]] += 1
        return milliseconds(decode, features)

    def exporting(stages: list[Stage]) -> bytes:
        exported["model"] += 1
        return export_chain(stages)

    monkeypatch.setattr(short, "_ms", counted)
    monkeypatch.setattr(short, "export_chain", exporting)
    assert short.choose(usual_stages(), vocoder.placement, "float32") is not None
    assert exported == {"model": 1} and timed == dict.fromkeys(short.FRAMES, 3)


@pytest.mark.parametrize("kind", ["HiFi-GAN, blocks 1", "BigVGAN v2"])
def test_generators(kind: str, tmp_path: Path) -> None:
    config = SIZES | KINDS[kind]
    folder = save(tmp_path / "gan", config, official_weights(config))
    graph, usual = (
        tts_infer.load_vocoder(folder, device="cpu", placement=placement, check_convention=False)
        for placement in (STATED, "short=none")
    )
    assert list(rows(graph, MELS[:1, :, :30])) == ["generator"]
    assert graph.synthesize(MELS[:1, :, :30]).stages[0]["engine"] == "onnxruntime"
    # float32 sums in another order
    assert relative_error(graph.decode(MELS[:1, :, :30]), usual.decode(MELS[:1, :, :30])) < 1e-5


@pytest.mark.usefixtures("_measured_anew")
def test_a_busy_machine_is_not_measured(vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads would wait for what other processes do at that moment, and the answer would be kept for good."""
    monkeypatch.setattr(short, "_measured", lambda *about: pytest.fail("it was measured"))
    monkeypatch.setattr(workers, "is_disturbed", lambda: True)
    assert short.choose(usual_stages(), vocoder.placement, "float32") is None
