"""Find the codes of errors in the source, and list those that the page has no Chinese template for.

python -m tests.error_codes
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

ROOT = Path(__file__).parent.parent


def templates_by_code(folder: Path) -> dict[str, str]:
    """The English template of every error with a code that the Python files in a folder raise."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found |= dict(_coded(node))
    return found


def _coded(call: ast.Call) -> Iterator[tuple[str, str]]:
    """The code and template of a call that has both."""
    for keyword in call.keywords:
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and call.args:
            template = call.args[0]
            text = template.value if isinstance(template, ast.Constant) else ast.unparse(template)
            yield str(keyword.value.value), str(text)


def fields_by_code() -> dict[str, set[str]]:
    """The names of the values in the template of every code, of the package and of the page."""
    found = templates_by_code(ROOT / "tts_infer") | templates_by_code(ROOT / "ui")
    return {code: {name for _, name, _, _ in Formatter().parse(text) if name} for code, text in found.items()}


def untranslated() -> dict[str, str]:
    """Templates of the package and of the page without a Chinese one."""
    written = json.loads((ROOT / "ui" / "i18n" / "zh.json").read_text(encoding="utf-8"))["errors"]
    found = templates_by_code(ROOT / "tts_infer") | templates_by_code(ROOT / "ui")
    return {code: text for code, text in found.items() if code not in written}


if __name__ == "__main__":
    for code, text in untranslated().items():
        print(f"{code}: {text}")
