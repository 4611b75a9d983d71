"""Make the file for another language of the page: every text of it and of the package in English, to be translated.

python -m tests.languages fr        # writes ui/i18n/fr.json
"""

from __future__ import annotations

import argparse
import fnmatch
import json

from tests.error_codes import ROOT, known_errors, notes_by_code, sentences_by_code
from tts_infer.dsp.mismatch import _KINDS
from tts_infer.io.features import _LOUD
from ui.texts import FOLDER, table

Table = dict[str, dict[str, str]]


def template() -> Table:
    """All texts in English, in the order of the Chinese table."""
    english, written = table("en"), table("zh")
    errors = known_errors()
    sentences, notes = sentences_by_code(ROOT / "tts_infer"), notes_by_code(ROOT / "tts_infer")
    kinds = {kind: looks.replace(" ({rival})", "") for kind, (looks, _) in _KINDS.items()}
    looks = {f"mel-looks-{kind}": f"The mel looks like {text} ({{low}} to {{high}})." for kind, text in kinds.items()}
    loud = {f"{what}-loud": text for what, text in _LOUD.items()}

    def error(code: str) -> str:
        patterns = [code] if code in errors else [one for one in errors if fnmatch.fnmatchcase(code, one)]
        return loud.get(code) or errors[patterns[0]].template

    return {
        "texts": english["texts"],
        "errors": {code: error(code) for code in written["errors"]},
        "sentences": {code: english["sentences"].get(code, sentences[code].template) for code in written["sentences"]},
        "notes": {code: looks.get(code) or notes[code].template for code in written["notes"]},
        "phrases": {english: english for english in written["phrases"]},
        "about": {english: english for english in written["about"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", help="its code, as browsers send it: fr, ja, ...")
    path = FOLDER / f"{parser.parse_args().language}.json"
    if path.exists():
        parser.error(f"{path} is there already")
    path.write_text(json.dumps(template(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: translate every text, keep what stands in braces, and run pytest tests/test_texts.py")


if __name__ == "__main__":
    main()
