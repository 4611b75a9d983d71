"""Make training speech with free synthesizers, of Debian and Kokoro: many voices, languages, pitches, speaking rates.

    python -m training.voices --out data/voices --minutes 120

Writes `<out>/train/<voice>/<n>.wav` and `<out>/unseen/<voice>/<n>.wav` (voices to judge with, never to train on) at the
voice's own sample rate. The texts are the sentences of Debian's fortune packages. A second run adds what is missing.
"""

import argparse
import random
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import soundfile as sf

from training.kokoro import SAMPLE_RATE, say

# Engine, role, language, minutes of each (of 120), voices; the most natural first. `_a<x>_f<y>` after a voice of an
# HTS engine makes another speaker of it: all-pass constant (higher: longer vocal tract) and semitones.
VOICES = """
festival train cs 6 czech_dita czech_machac czech_ph
festival unseen fi 2 suo_fi_lj_diphone
festival unseen it 2 pc_diphone
festival unseen cs 2 czech_krb
hts train en 5 cmu_us_slt_arctic_hts
jtalk train ja 5 nitech
flite train en 5 rms awb
flite train en 4 slt
hts train en 2.5 cmu_us_slt_arctic_hts_a0.41_f+2 cmu_us_slt_arctic_hts_a0.52_f-7
hts train en 2.5 cmu_us_slt_arctic_hts_a0.49_f-4 cmu_us_slt_arctic_hts_a0.47_f-2
hts train es 4 upc_ca_ona_hts
hts train es 2 upc_ca_ona_hts_a0.46_f-7 upc_ca_ona_hts_a0.39_f+3
jtalk train ja 2.5 nitech_a0.58_f-3 nitech_a0.52_f+4 nitech_a0.49_f+9
festival train ru 4 msu_ru_nsh_clunits
festival train it 4 lp_diphone
festival train fi 4 hy_fi_mv_diphone
festival train hi 3 hindi_NSK_diphone
festival train te 3 telugu_NSK_diphone
festival train mr 2 marathi_NSK_diphone
festival train en 3 ked_diphone kal_diphone
flite train en 2 kal16
espeak unseen ga 2 ga+Diogo
kokoro train en 1 af_heart af_bella af_nicole af_aoede af_kore af_sarah am_fenrir am_michael am_puck am_onyx
kokoro train en 1 bf_emma bm_george af_heart+am_puck af_bella+am_michael af_nicole+bf_emma am_fenrir+bm_george
kokoro unseen en 1 af_nova am_adam bf_isabella bm_fable
"""
PACKAGES = {  # of Debian, in bash; in main, but for hts-voice-*: contrib
    "festival": "festival festival-{czech,hi,mr,te} festvox-{czech-{dita,krb,machac,ph},italp16k,itapc16k} "
    "festvox-{kallpc16k,kdlpc16k,hi-nsk,mr-nsk,te-nsk,ru,suopuhe-lj,suopuhe-mv}",
    "hts": "festival festival-ca festvox-ca-ona-hts festvox-us-slt-hts htsengine",
    "jtalk": "open-jtalk open-jtalk-mecab-naist-jdic hts-voice-nitech-jp-atr503-m001",
    "flite": "flite",
    "espeak": "espeak-ng",
    "kokoro": "(training/kokoro.py says what)",
    "texts": "fortunes{,-min,-bg,-br,-cs,-de,-eo,-es,-ga,-it,-pl,-ru}",
}
ESPEAK_MINUTES = 30  # in all, for each variant with one of these languages, and the first 13 with two more
ESPEAK_LANGUAGES = (  # with the language of the text: its own, or one that is spelt alike
    "en-us:en de:de es:es fr:es pl:pl ru:ru it:it en-gb:en nl:de cs:cs pt:pt sv:de eo:eo bg:bg sk:sk fi:eo "
    "en-gb-scotland:en hu:eo da:de hr:sk tr:eo pt-br:pt ro:it uk:ru nb:de id:it sw:it sl:sk af:de ca:es lv:pl vi:it "
    "et:eo sq:it en-029:en la:it"
)
ESPEAK_VARIANTS = (
    "m1 f1 m2 f2 m3 f3 m4 f4 m5 f5 m6 m7 m8 klatt klatt2 klatt3 klatt4 klatt5 klatt6 Alex Alicia Andrea Andy Annie "
    "Denis Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Tweaky adam anika antonio aunty belinda "
    "benjamin boris caleb croak david ed edward grandma grandpa gustave iven iven2 john kaukovalta linda marcelo max "
    "michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 travis victor whisper "
    "whisperf zac UniRobot"
)
FORTUNES = Path("/usr/share/games/fortunes")
TEXTS = {  # language: the files that hold prose
    "en": "computers cookie definitions education food fortunes humorists law literature love medicine men-women "
    "miscellaneous people pets platitudes politics riddles science sports wisdom work",
    "pt": "brasil",
    "sk": "cs/klasik-sk",
    **{language: f"{language}/*" for language in ("bg", "cs", "de", "eo", "es", "ga", "it", "pl", "ru")},
}
BORROWED = {"hi": "it", "mr": "it", "te": "it", "ja": "eo", "fi": "eo"}  # no fortunes: read those of this language
ENCODINGS = {"cs": "iso-8859-2", "it": "iso-8859-1", "es": "iso-8859-1", "fi": "iso-8859-1"}  # of festival's languages
LATIN = str.maketrans("lvfcjqxàèéìíòóùúáĉĝĥĵŝŭ", "rbhkzksaeeiioouuakghzsu")  # as near as the other scripts can say it
KANA = "aあいうえお kかきくけこ sさしすせそ tたちつてと nなにぬねの hはひふへほ mまみむめも rらりるれろ "
KANA += "gがぎぐげご zざじずぜぞ dだじずでど bばびぶべぼ pぱぴぷぺぽ yやいゆえよ wわいうえを"
DEVANAGARI = str.maketrans("kgztdnpbmyrwsh", "कगजतदनपबमयरवसह")
VOWELS, SIGNS = "अएइओउ", ("", "े", "ि", "ो", "ु")  # of Devanagari, for a e i o u: alone, after a consonant
TELUGU_OFFSET = 0x300  # from Devanagari: both blocks of Unicode have one order
FESTIVAL_VOICES = Path("/usr/share/festival/voices")
JTALK_DICTIONARY = "/var/lib/mecab/dic/open-jtalk/naist-jdic"
JTALK_MODEL = "/usr/share/hts-voice/nitech-jp-atr503-m001/nitech_jp_atr503_m001.htsvoice"


@dataclass(frozen=True)
class Voice:
    """One voice of the tables above."""

    engine: str
    role: str
    language: str
    minutes: float
    name: str

    @property
    def key(self) -> str:
        return f"{self.engine}-{self.name}"


def table() -> list[Voice]:
    """All voices, in the order in which they are made."""
    voices = []
    for row in VOICES.strip().splitlines():
        engine, role, language, minutes, *names = row.split()
        voices += [Voice(engine, role, language, float(minutes), name) for name in names]
    variants, languages = ESPEAK_VARIANTS.split(), [pair.split(":") for pair in ESPEAK_LANGUAGES.split()]
    variants += 2 * variants[:13]
    for n, variant in enumerate(variants):
        accent, language = languages[n % len(languages)]
        voices.append(Voice("espeak", "train", language, ESPEAK_MINUTES / len(variants), f"{accent}+{variant}"))
    return voices


@cache
def sentences(language: str) -> list[str]:
    """A language's sentences of 4 to 20 words without digits, markup or shouting.

    Raises:
        FileNotFoundError: its texts are not installed.
    """
    found: set[str] = set()
    for path in sorted(p for pattern in TEXTS[language].split() for p in FORTUNES.glob(pattern)):
        if path.suffix not in ("", ".fortunes") or path.is_dir():  # .dat: index, .u8: the same text again
            continue
        for entry in re.split(r"\n%+\n", path.read_text("utf-8", errors="ignore")):
            prose = " ".join(line for line in entry.splitlines() if not re.match(r"\s*(--|\[|\()", line))
            found.update(s.strip() for s in re.split(r"(?<=[.!?])\s+", " ".join(prose.split())))
    clean = re.compile(r"(?:[^\W\d_]|[ ,.;:!?'-])+")
    kept = [s for s in sorted(found) if 4 <= len(s.split()) <= 20 and clean.fullmatch(s)]
    kept = [s for s in kept if not re.search(r"[A-ZА-Я]{3}|--|^-", s)]
    if not kept:
        raise FileNotFoundError(f"no texts in {FORTUNES} for {language}: apt-get install {PACKAGES['texts']}")
    return kept


def respell(text: str, language: str) -> str:
    """Write Latin letters as kana, Devanagari or Telugu for a language of these scripts; nonsense, but fluent."""
    if language not in ("ja", "hi", "mr", "te"):
        return text
    text = re.sub(r"[^a-z ,.]", "", text.lower().translate(LATIN))
    if language == "ja":
        rows = {row[0]: row[1:] for row in KANA.split()}
        text = re.sub(r"[nm](?![aeiou])", "ん", text.replace(" ", ""))
        text = re.sub(r"([kstnhmrgzdbpyw]?)([aeiou])", lambda m: rows[m[1] or "a"]["aiueo".index(m[2])], text)
        return re.sub(r"[kstnhmrgzdbpyw]", lambda m: rows[m[0]][2], text)
    text = re.sub(r"(?<=[a-z])(?<![aeiou])[aeiou]", lambda m: SIGNS["aeiou".index(m[0])], text)
    text = re.sub(r"[aeiou]", lambda m: VOWELS["aeiou".index(m[0])], text).translate(DEVANAGARI)
    return "".join(chr(ord(c) + TELUGU_OFFSET) if language == "te" and c > "z" else c for c in text)


def run(*command: str, text: bytes = b"") -> None:
    subprocess.run(command, input=text, capture_output=True, check=True, timeout=60)


def festival(voice: Voice, text: str, path: Path, rng: random.Random) -> None:
    """Scale the pitch targets between analysis and waveform: diphone voices follow, unit selection ignores it."""
    pitch = f"(item.set_feat x 'f0 (* {rng.uniform(0.88, 1.15):.3f} (item.feat x 'f0)))"
    hook = f"(lambda (utt) (mapcar (lambda (x) {pitch}) (utt.relation.leafs utt 'Target)) utt)"
    stretch = f"(Parameter.set 'Duration_Stretch {rng.uniform(0.85, 1.15):.3f})"
    setup = f"(begin (voice_{voice.name}) {stretch} (set! after_analysis_hooks (list {hook})))"
    encoded = text.encode(ENCODINGS.get(voice.language, "utf-8"), errors="ignore")
    run("text2wave", "-eval", setup, "-o", str(path), text=encoded)


def hts_options(voice: Voice, rng: random.Random) -> list[str]:
    timbre = re.search(r"_a([\d.]+)_f([+-]\d+)$", voice.name)
    semitones, rate = (float(timbre[2]) if timbre else 0) + rng.uniform(-1, 1), rng.uniform(0.85, 1.15)
    return ["-fm", f"{semitones:.2f}", "-r", f"{rate:.2f}", *(["-a", timbre[1]] if timbre else [])]


def hts(voice: Voice, text: str, path: Path, rng: random.Random) -> None:
    """Festival does the linguistics and hts_engine the sound, as festival passes on neither -a nor -fm."""
    name, labels, file = voice.name.split("_a0")[0], path.with_suffix(".lab"), path.with_suffix(".scm")
    script = f'(voice_{name}) (hts_dump_feats (utt.synth (Utterance Text "{text}")) hts_feats_list "{labels}")'
    file.write_text(script, ENCODINGS.get(voice.language, "utf-8"), errors="ignore")
    run("festival", "-b", str(file))
    (model,) = FESTIVAL_VOICES.glob(f"*/{name}/hts/*.htsvoice")
    run("hts_engine", "-m", str(model), *hts_options(voice, rng), "-ow", str(path), str(labels))


def jtalk(voice: Voice, text: str, path: Path, rng: random.Random) -> None:
    files = ["-x", JTALK_DICTIONARY, "-m", JTALK_MODEL, "-ow", str(path)]
    run("open_jtalk", *files, *hts_options(voice, rng), text=text.encode())


def flite(voice: Voice, text: str, path: Path, rng: random.Random) -> None:
    stretch, shift = rng.uniform(0.88, 1.15), rng.uniform(0.88, 1.15)
    settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"f0_shift={shift:.3f}"]
    run("flite", "-voice", voice.name, *settings, "-t", text, "-o", str(path))


def espeak(voice: Voice, text: str, path: Path, rng: random.Random) -> None:
    pitch, speed = rng.randint(20, 85), rng.randint(125, 195)
    run("espeak-ng", "-v", voice.name, "-p", str(pitch), "-s", str(speed), "-w", str(path), "--", text)


def kokoro(voice: Voice, text: str, path: Path, rng: random.Random) -> None:
    sf.write(path, say(voice.name, text, rng.uniform(0.85, 1.15)), SAMPLE_RATE)


Engine = Callable[[Voice, str, Path, random.Random], None]
ENGINES: dict[str, Engine] = {one.__name__: one for one in (festival, hts, jtalk, flite, espeak, kokoro)}


def usable(path: Path) -> bool:
    """Whether a recording lasts 1 to 15 s, is not silent, and at most a thousandth of it is clipped."""
    samples, rate = sf.read(path, dtype="float32")
    loud = np.abs(samples)
    return bool(rate <= len(samples) <= 15 * rate and loud.max() >= 0.02 and np.mean(loud > 0.9995) <= 1e-3)


def speak(voice: Voice, folder: Path, seconds: float) -> str:
    """Make one voice's files, the same ones each time, until they last this long; gives a line of report."""
    try:
        texts = sentences(BORROWED.get(voice.language, voice.language))
    except FileNotFoundError as e:
        return f"{voice.key}: skipped, {e}"
    folder.mkdir(parents=True, exist_ok=True)
    made, files, failed, rate = 0.0, 0, 0, 0
    for n in random.Random(voice.key).sample(range(len(texts)), len(texts)):
        path = folder / f"{n}.wav"
        if not path.exists():
            try:
                with tempfile.TemporaryDirectory(dir=folder.parents[1]) as scratch:
                    part = Path(scratch) / path.name
                    text, rng = respell(texts[n], voice.language), random.Random(f"{voice.key} {n}")
                    ENGINES[voice.engine](voice, text, part, rng)
                    if not usable(part):
                        continue
                    part.rename(path)
            except (OSError, ImportError, ValueError, subprocess.SubprocessError, sf.LibsndfileError) as e:
                failed += 1
                if failed == 5 and not files:
                    return f"{voice.key}: skipped, install {PACKAGES[voice.engine]} ({str(e)[-120:]})"
                continue
        info = sf.info(path)
        made, files, rate = made + info.duration, files + 1, info.samplerate
        if made >= seconds:
            break
    return f"{voice.key}: {made / 60:.2f} min, {files} files, {rate} Hz, {failed} failed"


def make(out: Path, minutes: float, jobs: int) -> None:
    """Make all voices, and print a line for each."""
    voices = table()
    scale = minutes / sum(v.minutes for v in voices if v.role == "train")

    def one(voice: Voice) -> str:
        seconds = 60 * voice.minutes * (scale if voice.role == "train" else 1)
        return speak(voice, out / voice.role / voice.key, seconds)

    with ThreadPool(jobs) as pool:
        for line in pool.imap(one, voices):
            print(line, flush=True)


def listing(minutes: float) -> str:
    """The table of all voices, a line each. Their licences are in /usr/share/doc/PACKAGE/copyright."""
    voices = table()
    scale = minutes / sum(v.minutes for v in voices if v.role == "train")
    rows = [("voice", "role", "texts", "minutes", "packages")]
    for voice in voices:
        made = voice.minutes * (scale if voice.role == "train" else 1)
        rows.append((voice.key, voice.role, voice.language, f"{made:.2f}", PACKAGES[voice.engine]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path, help="folder for train/ and unseen/")
    wanted.add_argument("--list", action="store_true", help="only list the voices")
    parser.add_argument("--minutes", type=float, default=120, help="of training speech (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="synthesizers at once (default: %(default)s)")
    args = parser.parse_args()
    if args.list:
        print(listing(args.minutes))
        return
    make(args.out, args.minutes, args.jobs)
    if not any(args.out.rglob("*.wav")):
        raise SystemExit("no voice was made; the packages that are missing are named above")


if __name__ == "__main__":
    main()
