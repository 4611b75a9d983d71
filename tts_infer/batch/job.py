"""Many files at once: exact ragged batches, resumable, by one of several executors that make the same bytes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

import torch

from tts_infer.arguments import checked
from tts_infer.batch.buckets import Bucket, Executor, Outcome, bucket_frames, frames_of, group
from tts_infer.batch.journal import Entry, Journal
from tts_infer.batch.local import run as run_here
from tts_infer.batch.manifest import Container, Item, list_items
from tts_infer.deprecated import renamed, warn_renamed
from tts_infer.devices import device_lock
from tts_infer.errors import FileError, InputError
from tts_infer.io.sources import Names
from tts_infer.io.targets import SampleFormat, check_format, check_writable, part_stem
from tts_infer.vocoder import Vocoder

ExecutorName = Literal["local", "ray"]
Progress = Callable[[int, int, float], bool | None]


@dataclass
class BatchReport:
    """The result of a batch. `made`, `noted` and `rtfx` are about this run, the other dicts about the whole job."""

    outputs: dict[str, float] = field(default_factory=dict)  # output name -> seconds of audio
    failed: dict[str, str] = field(default_factory=dict)  # output name -> reason
    left_out: dict[str, str] = field(default_factory=dict)  # path of what a folder holds besides inputs -> reason
    noted: dict[str, str] = field(default_factory=dict)  # output name -> what is odd about its input
    made: int = 0
    clipped_samples: int = 0
    seconds: float = 0.0
    wall_s: float = 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of audio made per second of this run."""
        return self.seconds / self.wall_s if self.wall_s else 0.0

    xrt = renamed("xrt", "rtfx")


@checked()
def synthesize_batch(
    vocoder: Vocoder,
    inputs: Names,
    out_dir: str | os.PathLike[str],
    *,
    container: Container = "wav",
    sample_format: SampleFormat = "pcm16",
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    executor: ExecutorName = "local",
    ray_address: str | None = None,
    engine: ExecutorName | None = None,
) -> BatchReport:
    """Decode or copy many files into a folder. After an interruption, the same call continues.

    Outputs are written whole or not at all. A file is always decoded together with the same others, so an interrupted
    run ends with the bytes of an undisturbed one. A broken input is recorded with its reason, and the others go on;
    each call tries it again. An output that is missing, or shorter than it was when it was made, is made again.

    Args:
        vocoder: what decodes.
        inputs: see `tts_infer.batch.manifest.list_items`.
        out_dir: folder of the outputs, made if it is missing. Not where `inputs` searches, see `list_items`.
        container: of outputs that no manifest names.
        sample_format: how samples are stored.
        journal: where progress is kept; None: beside the folder that `out_dir` leads to, as `NAME.journal`.
        progress: called after each bucket with the files made in this run, the files to make, and the seconds of audio
            made. If it returns False, the batch ends early: finished buckets are kept and reported, and the next call
            makes the rest.
        executor: "local": this process; "ray": a Ray cluster, see `tts_infer.batch.ray`. One may continue what the
            other began.
        ray_address: of a running cluster; None: the one this process is connected to, else one on this machine.
        engine: the old name of `executor`, for one release.

    Raises:
        FileError, InputError: bad names, or no such executor here (before any work); a journal of other settings or
            in use; a full disk (finished files are kept).
    """
    if engine is not None:
        warn_renamed("engine", "executor")
    run = _executor(engine or executor, ray_address)
    root = Path(out_dir)
    kept_in = Path(journal) if journal else _journal_beside(root)
    left_out: dict[str, str] = {}
    items = list_items(inputs, root, container, left_out)
    for item in items:  # before folders are made
        check_format(item.output, sample_format)
    _make_folders(root, items)
    for item in items:
        check_writable(item.target, sample_format)
    with Journal(kept_in, _settings(vocoder, sample_format)) as kept:
        return replace(_Job(vocoder, sample_format, kept, progress).run(items, run), left_out=left_out)


def _journal_beside(root: Path) -> Path:
    folder = Path(os.path.realpath(root))  # "." has no name
    if not folder.name:
        text = "output folder {folder!r} has no folder around it for a journal; name one (--journal)"
        raise InputError(text, code="no-place-for-journal", folder=str(root))
    return folder.with_name(f"{folder.name}.journal")


def _make_folders(root: Path, items: Sequence[Item]) -> None:
    try:
        for folder in [root, *{item.target.parent for item in items}]:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = "cannot make {folder}: {reason}"
        raise FileError(text, code="folder-not-made", folder=str(folder), reason=error.strerror) from None


def _settings(vocoder: Vocoder, sample_format: SampleFormat) -> dict[str, str]:
    """Everything that the bytes of the outputs depend on."""
    return {
        "weights": _digest(vocoder),
        "placement": vocoder.placement.of_batches,
        "dtype": vocoder.dtype,
        "refine": str(vocoder.refine),
        "sample_format": sample_format,
    }


def _digest(vocoder: Vocoder) -> str:
    """A hash of the weights and their configuration; the name of a vocoder may lead to other weights tomorrow."""
    digest = hashlib.blake2b(repr(vocoder.model.config).encode(), digest_size=4)
    with device_lock(*vocoder.placement.devices):
        for name, tensor in vocoder.model.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _executor(name: ExecutorName, ray_address: str | None) -> Executor:
    if name not in get_args(ExecutorName):
        text, allowed = "executor is {name!r}; allowed: {allowed}", ", ".join(get_args(ExecutorName))
        raise InputError(text, code="executor-unknown", name=name, allowed=allowed)
    if name == "local":
        if ray_address is not None:
            text = "a Ray address is given, but the executor is 'local'; use executor 'ray'"
            raise InputError(text, code="ray-address-unused")
        return run_here
    from tts_infer.batch.ray import run as run_on_ray

    return partial(run_on_ray, address=ray_address)


def _look(item: Item) -> Entry:
    """An entry without a bucket. Its fingerprint changes when the source does; a relative path may mean another one."""
    try:
        stat, source = item.source.stat(), os.path.realpath(item.source)
    except OSError as error:
        reason = f"cannot read {item.source}: {error.strerror}"
        return Entry(item.name, f"{item.source}:missing", bucket=0, error=reason)
    return Entry(item.name, f"{source}:{stat.st_size}:{stat.st_mtime_ns}", bucket=0)


@dataclass
class _Job:
    vocoder: Vocoder
    sample_format: SampleFormat
    journal: Journal
    progress: Progress | None

    def run(self, items: Sequence[Item], executor: Executor) -> BatchReport:
        start, report = time.perf_counter(), BatchReport()
        entries = self._plan(items)
        targets = [item.target for item in items]
        _remove_parts(targets)
        waiting = _waiting(items, entries)
        to_make = sum(map(len, waiting))
        refusals: list[FileError] = []
        try:
            with closing(executor(self.vocoder, waiting, self.sample_format)) as work:  # ends it after a break
                for outcomes in work:
                    refusals += self._finish(outcomes, entries, report)
                    if self.progress and self.progress(report.made, to_make, report.seconds) is False:
                        break
        finally:
            _remove_parts(targets)  # left by machines that died
        if refusals:
            raise refusals[0]
        for entry in (entries[item.name] for item in items):
            if entry.error is not None:
                report.failed[entry.output] = entry.error
            elif entry.seconds is not None:
                report.outputs[entry.output] = entry.seconds
        report.wall_s = time.perf_counter() - start
        return report

    def _plan(self, items: Sequence[Item]) -> dict[str, Entry]:
        """Every item's entry: the one it had, if its source has not changed, else a new one in a new bucket.

        What failed is new, too: it may have been repaired, and the others of its bucket were decoded without it.
        """
        known = self.journal.entries()
        kept = {(entry.output, entry.fingerprint) for entry in known.values() if entry.error is None}
        seen = {item: _look(item) for item in items}
        new = {item: entry for item, entry in seen.items() if (entry.output, entry.fingerprint) not in kept}
        sizes = {e.output: frames_of(i.source, self.vocoder.features) for i, e in new.items() if e.error is None}
        first = 1 + max((entry.bucket for entry in known.values()), default=0)
        buckets = dict(group(sizes, first, bucket_frames(self.vocoder)))
        planned = [replace(entry, bucket=buckets.get(entry.output, 0)) for entry in new.values()]
        self.journal.record(planned)
        return known | {entry.output: entry for entry in planned}

    def _finish(self, outcomes: list[Outcome], entries: dict[str, Entry], report: BatchReport) -> list[FileError]:
        """Record what is there, and return why the rest could not be written."""
        done = [outcome for outcome in outcomes if outcome.unwritten is None]
        for o in done:
            entries[o.name] = replace(entries[o.name], seconds=o.seconds, error=o.error, size=o.size)
        self.journal.record(entries[o.name] for o in done)
        report.clipped_samples += sum(o.clipped_samples for o in done)
        report.noted |= {o.name: o.note for o in done if o.note is not None}
        report.made += sum(o.error is None for o in done)
        report.seconds += sum(o.seconds or 0.0 for o in done)
        return [o.unwritten for o in outcomes if o.unwritten is not None]


def _waiting(items: Sequence[Item], entries: dict[str, Entry]) -> list[Bucket]:
    """The buckets with something to do, whole but for items that are known to fail."""
    ordered = sorted((i for i in items if entries[i.name].error is None), key=lambda i: entries[i.name].bucket)
    buckets = [list(group) for _, group in groupby(ordered, key=lambda i: entries[i.name].bucket)]
    return [bucket for bucket in buckets if not all(_is_made(item, entries[item.name]) for item in bucket)]


def _is_made(item: Item, entry: Entry) -> bool:
    return entry.seconds is not None and item.target.is_file() and item.target.stat().st_size >= (entry.size or 0)


def _remove_parts(targets: Iterable[Path]) -> None:
    """Remove what a killed run left half written."""
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(part_stem(target.name))
    for folder, mine in names.items():
        for part in folder.glob(".*.part"):
            if part.name[1:].rsplit(".", 2)[0] in mine:
                with suppress(OSError):  # the file system may have become read-only
                    part.unlink()
