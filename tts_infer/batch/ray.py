"""A batch on a Ray cluster: read, decode in actors that hold the vocoder, write. Imported only when asked for.

Ray Data places the work, moves what is read and decoded, and repeats what dies with an actor or a machine: every step
may be repeated, because it makes the same bytes and files get their names whole. Where the cluster dies whole, Ray ends
this process, too, within seconds, with words of its own and exit status 1; the same call goes on from the journal.
Sources, outputs and this package must be reachable under the same names on every machine; the journal stays with the
one process that was called. The last bits are those of the processor that decodes: machines of one kind make the bytes
that one of them would make.
"""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tts_infer.batch.buckets import Bucket, Content, Outcome, Task, Work, decode, read, to_mel, write
from tts_infer.config import DTypeName, MelConfig
from tts_infer.devices import CPU, device_lock
from tts_infer.errors import InputError, first_sentence
from tts_infer.io.writer import SampleFormat
from tts_infer.runtime.placement import Placement
from tts_infer.vocoder import Vocoder

try:
    import ray
    import ray.data
except ImportError as error:
    raise InputError(f"engine 'ray' needs Ray ({error}); install it: pip install 'tts-infer[ray]'") from None

# Actors that read, and that write, for each that decodes, at most.
_BESIDE = 2
# Machines that may die, one after the other, while an actor loads its vocoder.
_DEATHS_AT_START = 10
# Seconds in which a cluster must answer. Ray itself would knock for minutes.
_ANSWER_S = 5.0
# Share of a pool at work below which an actor is let go.
_NEVER = -1.0
# Nothing is reported to anyone; and no warning, at every start, of what happens if the process that was called dies.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}

Row = dict[str, bytes]  # one bucket, in one column: Ray's tables know no ragged lists of tensors


def run(vocoder: Vocoder, buckets: Sequence[Bucket], sample_format: SampleFormat, address: str | None = None) -> Work:
    """An engine, see `tts_infer.batch.buckets`.

    Args:
        vocoder: its weights and placement are those of every actor.
        buckets: what is to do.
        sample_format: how samples are stored.
        address: of a running cluster, as `ray.init` takes it; None: the one that this process is connected to, else
            a cluster on this machine that lives as long as the batch.

    Raises:
        InputError: there is no cluster at `address`.
    """
    if not buckets:
        return
    rows = [_row([replace(t, source=t.source.absolute(), target=t.target.absolute()) for t in b]) for b in buckets]
    with _connected(address), _quiet(), ray.data.DataContext.current(_context()):
        for row in _pipeline(vocoder, rows, sample_format).iter_rows():
            outcomes: list[Outcome] = _content(row)
            yield outcomes
            if any(outcome.unwritten for outcome in outcomes):
                return


def _pipeline(vocoder: Vocoder, rows: list[Row], sample_format: SampleFormat) -> ray.data.Dataset:
    """Rows of tasks in, rows of outcomes out.

    Every stage is a pool of actors: what dies is begun again, without limit, by Ray Data's defaults (max_restarts and
    max_task_retries of -1). Reading and writing wait more than they compute. They reserve no CPU, so that they can
    run also where decoding holds all that are left after a machine has died; and they are actors because workers of
    tasks without CPUs are ended when they pause, and take seconds to begin anew.
    """
    gpus, there = _gpus(vocoder.placement), ray.cluster_resources()
    decoders = max(1, int(there["GPU"] / gpus if gpus else there.get("CPU", 1)))
    beside = ray.data.ActorPoolStrategy(min_size=1, max_size=_BESIDE * decoders)
    decoding = ray.data.ActorPoolStrategy(min_size=1, initial_size=decoders)
    dataset: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = _through(dataset, beside, _Read, [vocoder.mel_config])
    dataset = _through(dataset, decoding, _Decode, [ray.put(_recipe(vocoder))], 1, gpus)
    return _through(dataset, beside, _Write, [vocoder.sample_rate, sample_format])


def _through(
    dataset: ray.data.Dataset,
    pool: ray.data.ActorPoolStrategy,
    actor: Any,
    made_with: list[Any],
    cpus: int = 0,
    gpus: int = 0,
) -> ray.data.Dataset:
    return dataset.map(actor, fn_constructor_args=made_with, num_cpus=cpus, num_gpus=gpus, compute=pool)


class _Read:
    def __init__(self, config: MelConfig) -> None:
        self._config = config

    def __call__(self, row: Row) -> Row:
        tasks: list[Task] = _content(row)
        return _row((tasks, [read(task, self._config) for task in tasks]))


class _Decode:
    """One vocoder and one thread, as in `tts_infer.batch.local`: their number decides on the last bits."""

    def __init__(self, recipe: ray.ObjectRef[_Recipe]) -> None:
        made = ray.get(recipe)
        torch.set_num_threads(1)
        self._vocoder = Vocoder(made.model, made.placement, made.name, made.dtype, made.refine)

    def __call__(self, row: Row) -> Row:
        tasks: list[Task]
        contents: list[Content]
        tasks, contents = _content(row)
        audios = decode([to_mel(content, self._vocoder) for content in contents], self._vocoder)
        return _row((tasks, [audio if isinstance(audio, str) else audio.cpu() for audio in audios]))


class _Write:
    def __init__(self, sample_rate: int, sample_format: SampleFormat) -> None:
        self._sample_rate, self._sample_format = sample_rate, sample_format

    def __call__(self, row: Row) -> Row:
        tasks: list[Task]
        audios: list[Content]
        tasks, audios = _content(row)
        rate, form = self._sample_rate, self._sample_format
        return _row([write(task, audio, rate, form) for task, audio in zip(tasks, audios, strict=True)])


def _row(content: Any) -> Row:
    return {"bucket": pickle.dumps(content, pickle.HIGHEST_PROTOCOL)}


def _content(row: Row) -> Any:
    return pickle.loads(row["bucket"])


@dataclass(frozen=True)
class _Recipe:
    """What a vocoder is made of again elsewhere."""

    model: nn.Module
    placement: Placement
    name: str
    dtype: DTypeName
    refine: int


def _recipe(vocoder: Vocoder) -> _Recipe:
    devices = _accelerators(vocoder.placement)
    with device_lock(*devices):
        model = copy.deepcopy(vocoder.model).to(CPU)
    placement = _as_seen_there(vocoder.placement)
    return _Recipe(model, placement, vocoder.name, vocoder.dtype, vocoder.refine)


def _accelerators(placement: Placement) -> list[torch.device]:
    return sorted(placement.devices - {CPU}, key=str)


def _as_seen_there(placement: Placement) -> Placement:
    """The same placement for an actor, which sees only the accelerators that it was given, counted from 0."""
    number = {device: torch.device(device.type, i) for i, device in enumerate(_accelerators(placement))}
    return Placement({s: replace(place, device=number.get(place.device, CPU)) for s, place in placement.items()})


def _gpus(placement: Placement) -> int:
    """GPUs that an actor reserves."""
    return len(_accelerators(placement)) if ray.cluster_resources().get("GPU") else 0


def _context() -> ray.data.DataContext:
    """The user's settings, but patient with machines that die."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False  # the batch has its own
    context.autoscaling_config.actor_pool_util_downscaling_threshold = _NEVER  # the next bucket would load it again
    context.max_consecutive_actor_init_deaths = _DEATHS_AT_START
    return context


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data's running commentary out of the terminal; its log file has everything."""
    consoles = [h for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)]
    levels = [console.level for console in consoles]
    for console in consoles:
        console.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for console, level in zip(consoles, levels, strict=True):
            console.setLevel(level)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Use the cluster that this process is connected to, or connect for as long as the body runs."""
    if ray.is_initialized():
        if address is not None:
            raise InputError(f"this process is connected to a Ray cluster already, not to {address!r}")
        yield
        return
    _require_answer(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if address is None:
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at {address or 'local'!r}: {first_sentence(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Knock once at an address that names host and port; others are left to Ray.

    Raises:
        InputError: nobody answers.
    """
    named = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d+)", address or "")
    if not named:
        return
    try:
        socket.create_connection((named[1], int(named[2])), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster at {address!r}: {error}; `ray status` on a machine of the cluster shows its address"
        ) from None
