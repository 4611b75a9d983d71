"""Many short clips, from files to files, against our decode in memory and a loop over the official package.

`python -m benchmarks.batch` makes its clips with espeak-ng, which must be installed.
"""

from __future__ import annotations

import argparse
import copy
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.common import environment, finish, table
from benchmarks.vocoders import SIZES, make
from tts_infer import Vocoder, read_audio, synthesize_batch
from tts_infer.vocoders.reference import OfficialVocos

EXACT_CLIPS = 300  # also decoded in float64, which is slow
WORDS = ["the", "one", "two", "three", "green", "house", "river", "morning", "paper", "engine", "quickly", "light"]


def make_clips(folder: Path, count: int) -> None:
    """Utterances of 1 to 24 words: about 0.5 to 8 s."""
    random.seed(0)
    for i in range(count):
        text = " ".join(random.choices(WORDS, k=random.randint(1, 24)))
        voice = random.choice(["en", "en-us", "de", "fr", "en+f3"])
        subprocess.run(["espeak-ng", "-v", voice, "-w", folder / f"{i:05}.wav", text], check=True)


def official_loop(vocoder: Vocoder, clips: list[Path], out: Path) -> None:
    """What a script over the official package does: read, features, decode, write."""
    model = vocoder.model
    official = OfficialVocos(model.config).eval()
    official.load_state_dict(model.state_dict(), strict=False)
    with torch.inference_mode():
        for clip in clips:
            audio = torch.from_numpy(read_audio(clip, vocoder.sample_rate).samples)[None]
            soundfile.write(
                out / clip.name, official(official.feature_extractor(audio))[0].numpy(), vocoder.sample_rate
            )


def same_mel_differences(vocoder: Vocoder, clips: list[Path], root: Path) -> dict[str, float]:
    """Largest difference of each clip from the official decode of the same stored mel, relative to full scale.

    Copies of the same audio would differ more: bins 130 dB below the loudest hold only the rounding of the STFT that
    made them, and a trained network turns that into other phases. In a few clips the network does the same with the
    rounding of its own sums. So the distance of the official decode from float64 is given, too.
    """
    model = vocoder.model
    official = OfficialVocos(model.config).eval()
    official.load_state_dict(model.state_dict(), strict=False)
    exact = copy.deepcopy(official).double()
    (root / "mels").mkdir()
    for clip in clips:
        mel = vocoder.mel(read_audio(clip, vocoder.sample_rate).samples)
        np.save(root / "mels" / f"{clip.stem}.npy", mel.numpy())
    synthesize_batch(vocoder, [root / "mels"], root / "decoded", sample_format="float32")
    ours: list[float] = []
    rounding: list[float] = []
    with torch.inference_mode():
        for clip in clips:
            mel = torch.from_numpy(np.load(root / "mels" / f"{clip.stem}.npy"))
            audio = official(mel)[0]
            made = torch.from_numpy(soundfile.read(root / "decoded" / clip.name, dtype="float32")[0])
            ours.append(float((made - audio).abs().max()))
            if len(rounding) < EXACT_CLIPS:
                rounding.append(float((exact(mel.double())[0] - audio).abs().max()))
    return {
        "99 of 100 differ by at most": statistics.quantiles(ours, n=100)[-1],
        "all by": max(ours),
        "official from float64, all by": max(rounding),
    }


def measure(vocoder: Vocoder, clips: list[Path], root: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Seconds and rates of the three ways, and how a batch differs from the official decode."""
    waves = [read_audio(clip, vocoder.sample_rate).samples for clip in clips]
    start = time.perf_counter()
    for wave in waves:  # the same work without files, one clip after the other
        vocoder(wave)
    memory_s = time.perf_counter() - start
    report = synthesize_batch(vocoder, clips, root / "out")
    (root / "official").mkdir()
    start = time.perf_counter()
    official_loop(vocoder, clips, root / "official")
    official_s = time.perf_counter() - start
    rows = [
        {"what": what, "s": s, "x real time": report.seconds / s, "ratio to official": official_s / s}
        for what, s in (
            ("batch, files to files", report.wall_s),
            ("in memory, one by one", memory_s),
            ("official loop", official_s),
        )
    ]
    return rows, same_mel_differences(vocoder, clips, root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=SIZES)
    args = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        parser.error("espeak-ng is not installed")
    setting = environment("vocos")
    print(setting)
    results = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "in").mkdir()
        make_clips(root / "in", args.clips)
        clips = sorted((root / "in").glob("*.wav"))
        for size in args.models:
            (root / size).mkdir()
            rows, differences = measure(make(size), clips, root / size)
            table(f"{size}: {args.clips} clips, {rows[0]['s'] * rows[0]['x real time']:.0f} s of audio", rows)
            table("differences from the official decode of the same mels, of full scale", [differences])
            results += [{"model": size, **differences, **row} for row in rows]
    finish("batch", setting, results)


if __name__ == "__main__":
    main()
