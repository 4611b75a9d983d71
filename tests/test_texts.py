"""The page's texts: every one is there in both languages, is used, and has the same values in it."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

import tts_infer
from tests.error_codes import ROOT, errors_by_code, fields_of, known_errors, notes_by_code, sentences_by_code
from tests.languages import template
from tts_infer.dsp import mismatch
from tts_infer.sentences import Sentence, Several, as_json, from_json
from ui import texts
from ui.scope import script_texts
from ui.session import noted, read_input
from ui.texts import Translator, languages, table, translations, translator

ENGLISH, CHINESE = table("en"), table("zh")


@pytest.mark.parametrize("language", [language for language in languages() if language != "en"])
def test_all_languages_have_the_same_texts(language: str) -> None:
    """And so has what a contributor is given to translate."""
    given, written = template(), table(language)
    assert {kind: list(keys) for kind, keys in given.items()} == {kind: list(keys) for kind, keys in written.items()}
    for kind, english in given.items():
        for key, text in english.items():
            assert text and fields_of(text) == fields_of(written[kind][key]), key


def test_a_language_is_one_more_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for language in ("en", "zh"):
        (tmp_path / f"{language}.json").write_bytes((texts.FOLDER / f"{language}.json").read_bytes())
    made = template()
    made["texts"]["device"], made["sentences"]["asked-for"] = "Appareil", "demandé"
    (tmp_path / "fr.json").write_text(json.dumps(made), encoding="utf-8")
    monkeypatch.setattr(texts, "FOLDER", tmp_path)
    languages.cache_clear()
    table.cache_clear()
    try:
        say = translator(gr.Request(headers={"accept-language": "fr-CA,en;q=0.5"}))
        assert (say("device"), say.sentence(Sentence("asked for", code="asked-for"))) == ("Appareil", "demandé")
        assert translations().translations_dict["fr"]["tts-infer-device"] == "Appareil"
        assert script_texts(("device",))["fr"] == {"device": "Appareil"}
    finally:
        languages.cache_clear()
        table.cache_clear()


def strings(where: Path) -> set[str]:
    """Every string constant of a Python file, or of those in a folder."""
    paths = [where] if where.is_file() else where.rglob("*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_text_is_used() -> None:
    assert set(ENGLISH["texts"]) <= strings(ROOT / "ui") | strings(ROOT / "app.py")


def test_every_label_has_a_text(demo: gr.Blocks) -> None:
    shown = ("label", "value", "info", "placeholder", "props")
    written = " ".join(str(getattr(block, field, "")) for block in demo.blocks.values() for field in shown)
    used = {json.loads(marker)["key"] for marker in re.findall(r"__i18n__(\{.*?\})", written)}
    assert len(used) > 30
    assert used <= set(translations().translations_dict["en"])


def test_every_phrase_is_one_of_the_package() -> None:
    assert set(CHINESE["phrases"]) <= strings(Path(tts_infer.__file__).parent)


def test_translated_errors_exist_and_have_the_same_values() -> None:
    known = known_errors()
    for code, chinese in CHINESE["errors"].items():
        patterns = [code] if code in known else [one for one in known if fnmatch.fnmatchcase(code, one)]
        matching = [known[pattern] for pattern in patterns]
        assert matching, code
        assert all(fields_of(chinese) == error.fields for error in matching), code


def test_every_sentence_has_its_chinese_with_values_that_it_has() -> None:
    known = sentences_by_code(ROOT / "tts_infer")
    assert set(known) == set(CHINESE["sentences"])
    assert set(ENGLISH["sentences"]) <= set(known)
    for code, sentence in known.items():
        for written in (ENGLISH["sentences"].get(code), CHINESE["sentences"][code]):
            assert written is None or fields_of(written) <= sentence.fields, code


def test_every_note_has_its_chinese_with_the_same_values() -> None:
    known = notes_by_code(ROOT / "tts_infer")
    assert len(known) > 8
    for code, note in known.items():
        assert fields_of(CHINESE["notes"][code]) == note.fields, code
    looks = {f"mel-looks-{kind}" for kind in mismatch._KINDS}
    assert set(CHINESE["notes"]) == {*known, *looks}


def test_notes_are_translated_by_code_with_their_values() -> None:
    meter = tts_infer.SignalMeter()
    meter.add(np.ones((100, 1)))
    (note,) = noted(meter.notes())
    assert Translator("en").note(note) == "100.0 % of the input is at full scale: it was clipped"
    assert Translator("zh").note(json.loads(json.dumps(note))) == "输入有 100.0 % 达到满幅：它已被削波。"


def test_doubts_about_a_mel_are_translated_with_their_values(
    vocoder: tts_infer.Vocoder, speech: torch.Tensor, tmp_path: Path
) -> None:
    np.save(tmp_path / "mel.npy", 0.1 * vocoder.mel(speech).numpy())
    (doubt,) = noted(read_input(vocoder, "mel", tmp_path / "mel.npy").notes)
    low, high = doubt["fields"]["low"], doubt["fields"]["high"]
    assert Translator("zh").note(doubt) == f"该梅尔频谱（{low} 到 {high}）看起来是乘以 0.1 的对数；请转换单位。"


def test_sentences_are_translated_with_the_sentences_in_them() -> None:
    there = Sentence("{ms:.2f} on {device} by {how}", code="time-there", ms=2, device="cpu", how="fft")
    faster = Sentence("{ms:.2f} ms against {others:, }", code="faster", ms=1, others=Several((there, there)))
    kept = from_json(as_json(Sentence("{reason}; measured before", code="measured-before", reason=faster)))
    assert kept == "1.00 ms against 2.00 on cpu by fft, 2.00 on cpu by fft; measured before"
    one = "cpu 上用 fft 为 2.00 毫秒"
    assert Translator("zh").sentence(kept) == f"1.00 毫秒，其他为：{one}，{one}；此前已测"
    assert Translator("en").sentence(kept) == kept
    error = tts_infer.PlacementError("engine {engine!r}: {reason}", code="engine-idle", engine="mlx", reason=faster)
    assert Translator("zh").error(error.naming({"/tmp/clip.wav": "clip.wav"})).endswith(f"其他为：{one}，{one}")


def test_errors_of_the_page_are_translated() -> None:
    assert set(errors_by_code(ROOT / "ui")) <= set(CHINESE["errors"])


def test_errors_are_translated_by_code() -> None:
    error = tts_infer.InputError(
        "refine is {refine!r}; allowed: {allowed}", code="page-refine", refine="3", allowed="0"
    )
    within = error.within("a.npy")
    assert Translator("en").error(within) == str(within) == "a.npy: refine is '3'; allowed: 0"
    assert Translator("zh").error(within) == "a.npy: refine 为 '3'；可选：0"


def test_errors_without_a_translation_stay_english() -> None:
    for error in (tts_infer.InputError("by no code"), tts_infer.InputError("{n} of it", code="never-heard-of", n=3)):
        assert Translator("zh").error(error) == str(error)


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [("zh-CN,zh;q=0.9", "设备"), ("zh", "设备"), ("de-DE,zh;q=0.5", "Device"), ("en", "Device"), ("", "Device")],
)
def test_the_first_language_of_the_browser_counts(accepted: str, expected: str) -> None:
    assert translator(gr.Request(headers={"accept-language": accepted}))("device") == expected
    assert translator(None)("device") == "Device"
