"""Batches on Ray: the bytes of the local executor, whatever dies on the way."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tts_infer
from tts_infer.batch import buckets
from tts_infer.batch.journal import Journal

ROOT = Path(__file__).parent.parent
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; import tts_infer.cli; sys.exit(tts_infer.cli.main(sys.argv[1:]))"
STORE_BYTES = 100 * 2**20
# A machine that is silent for this long is dead: what Ray takes half a minute for.
HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}


def test_without_ray_it_is_one_line(tmp_path: Path) -> None:
    arguments = ["batch", str(ROOT / "examples"), "--out", str(tmp_path / "out"), "--executor", "ray"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_RAY, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install 'tts-infer[ray]'" in done.stderr and not (tmp_path / "out").exists()


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Many small buckets, so that something dies in the middle; some inputs are broken."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(40):
        mel = random.normal(-5, 2, (100, 150 + i)).astype(np.float32)
        np.save(folder / ("deep" if i % 2 else "") / f"{i:02}.npy", mel)
    for i in range(2):
        (folder / f"clip{i}.wav").write_bytes((ROOT / "examples" / "english.wav").read_bytes())
    (folder / "text.wav").write_text("no audio")
    np.save(folder / "nan.npy", np.full((100, 160), np.nan, dtype=np.float32))
    return folder


@pytest.fixture
def calm(
    inputs: Path, tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> tts_infer.BatchReport:
    """The same by the local executor, in `calm`."""
    monkeypatch.setattr(buckets, "CPU_FRAMES", 320)  # one or two to a bucket
    return tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "calm")


class TwoNodes:
    """A cluster of two machines, both of them this one."""

    def __init__(self) -> None:
        ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tts-infer[ray]'")
        from ray.cluster_utils import Cluster

        self.ray: Any = ray
        head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self.cluster: Any = Cluster(initialize_head=True, head_node_args=head | {"_system_config": HEALTH})
        self.second: Any = self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        ray.init(self.cluster.address, log_to_driver=False, logging_level=logging.ERROR)

    def decoders(self) -> list[dict[str, Any]]:
        """The actors with a vocoder that are alive: their node and process."""
        return [
            {"node": actor["Address"]["NodeID"], "pid": actor["Pid"]}
            for actor in self.ray._private.state.actors().values()
            if "_Decode" in actor["ActorClassName"] + str(actor.get("Name")) and actor["State"] == "ALIVE"
        ]

    def close(self) -> None:
        self.ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    before = dict(os.environ)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        nodes = TwoNodes()
        yield nodes
        nodes.close()
    finally:
        os.environ.clear()
        os.environ.update(before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def once(action: Callable[[], object], after: int) -> Callable[[int, int, float], None]:
    """A progress function that does something in the middle."""
    left = [action]

    def progress(files: int, to_make: int, seconds: float) -> None:
        if files >= after and left:
            assert files < to_make - 10, "too late to be in the middle"
            left.pop()()

    return progress


def require_same(report: tts_infer.BatchReport, calm: tts_infer.BatchReport, tmp_path: Path) -> None:
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")  # nothing half written, either
    assert report.outputs == calm.outputs and set(report.failed) == set(calm.failed) == {"text.wav", "nan.wav"}
    assert report.made == calm.made == 42 and report.seconds == pytest.approx(calm.seconds)
    journals = [Journal(tmp_path / f"{name}.journal", {}) for name in ("out", "calm")]
    ours, theirs = (journal.entries() for journal in journals)
    assert {name: replace(entry, error=None) for name, entry in ours.items()} == {
        name: replace(entry, error=None) for name, entry in theirs.items()
    }
    for journal in journals:
        journal.close()


@pytest.mark.slow
def test_an_actor_dies(
    two_nodes: TwoNodes, inputs: Path, calm: tts_infer.BatchReport, tmp_path: Path, vocoder: tts_infer.Vocoder
) -> None:
    killed: list[int] = []

    def kill() -> None:
        victim = two_nodes.decoders()[0]["pid"]
        killed.append(victim)
        os.kill(victim, signal.SIGKILL)

    report = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out", progress=once(kill, 5), executor="ray")
    assert killed
    require_same(report, calm, tmp_path)
    assert two_nodes.ray.is_initialized()  # whose cluster it is decides when it ends

    # one journal: what is missing is made by the other executor, with the bytes it had
    (tmp_path / "out" / "00.wav").unlink()
    again = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out")
    assert 1 <= again.made <= 2 and contents(tmp_path / "out") == contents(tmp_path / "calm")
    with pytest.raises(tts_infer.InputError, match="connected to a Ray cluster already"):
        tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "new", executor="ray", ray_address="127.0.0.1:1")


@pytest.mark.slow
def test_a_machine_dies(
    two_nodes: TwoNodes, inputs: Path, calm: tts_infer.BatchReport, tmp_path: Path, vocoder: tts_infer.Vocoder
) -> None:
    at_work: list[str] = []

    def remove() -> None:
        deadline = time.monotonic() + 30  # the actor there may still be loading its vocoder
        while two_nodes.second.node_id not in at_work and time.monotonic() < deadline:
            at_work[:] = [decoder["node"] for decoder in two_nodes.decoders()]
            time.sleep(0.02)
        two_nodes.cluster.remove_node(two_nodes.second, allow_graceful=False)

    report = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out", progress=once(remove, 5), executor="ray")
    assert two_nodes.second.node_id in at_work  # there was something to lose
    require_same(report, calm, tmp_path)


@pytest.mark.slow
def test_from_the_command_line(inputs: Path, calm: tts_infer.BatchReport, tmp_path: Path) -> None:
    """A cluster of its own, that is gone afterwards; stdout holds the report and nothing else."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tts-infer[ray]'")
    command = [sys.executable, "-m", "tts_infer", "batch", str(inputs), "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run([*command, "--executor", "ray"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["outputs"] == calm.outputs and set(report["failed"]) == set(calm.failed)


def test_mistakes(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    examples = [ROOT / "examples"]
    with pytest.raises(tts_infer.InputError, match="executor is 'spark'; allowed: local, ray"):
        tts_infer.synthesize_batch(vocoder, examples, tmp_path / "out", executor="spark")  # type: ignore[arg-type]
    with pytest.raises(tts_infer.InputError, match="the executor is 'local'; use executor 'ray'"):
        tts_infer.synthesize_batch(vocoder, examples, tmp_path / "out", ray_address="auto")
    assert not (tmp_path / "out").exists()


def test_actors_count_accelerators_from_zero(vocoder: tts_infer.Vocoder) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tts-infer[ray]'")
    from tts_infer.batch.ray import _as_seen_there

    here, second, fourth = vocoder.placement, torch.device("cuda", 1), torch.device("cuda", 3)
    places = dict(here)
    places["backbone"] = replace(here["backbone"], device=fourth)
    places["head"] = replace(here["head"], device=second)
    there = _as_seen_there(tts_infer.Placement(places))
    devices = [str(there[stage].device) for stage in ("mel", "backbone", "head", "istft")]
    assert devices == ["cpu", "cuda:1", "cuda:0", "cpu"]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_answers(scheme: str, tmp_path: Path) -> None:
    """From the command line, since the tests above keep this process connected to a cluster of their own."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tts-infer[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"  # bound, but nobody listens
        command = [sys.executable, "-m", "tts_infer", "batch", str(ROOT / "examples"), "--out", str(tmp_path / "out")]
        options = ["--executor", "ray", "--ray-address", address]
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith(
            f"no Ray cluster at '{address}': [Errno 111] Connection refused; "
            "`ray status` on a machine of the cluster shows its address"
        )
    )
