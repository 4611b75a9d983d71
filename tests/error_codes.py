"""Find the codes of errors and sentences in the source, and list those that the page has no Chinese template for.

python -m tests.error_codes
"""

from __future__ import annotations

import ast
import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

ROOT = Path(__file__).parent.parent
# Of tts_infer; of report the page takes pictures only.
UNUSED_ROOMS = ("batch", "cli", "evaluation", "export", "integrations", "losses", "report", "server")


@dataclass(frozen=True)
class Coded:
    """An error or a sentence with a code, as the source has it."""

    template: str
    fields: frozenset[str]  # names of the values that it is given


def errors_by_code(folder: Path) -> dict[str, Coded]:
    """Every error with a code that the Python files in a folder raise."""
    return _by_code(folder, "")


def sentences_by_code(folder: Path) -> dict[str, Coded]:
    """Every `Sentence` in the Python files of a folder."""
    return _by_code(folder, "Sentence")


def notes_by_code(folder: Path) -> dict[str, Coded]:
    """Every `Note` with its text in the Python files of a folder."""
    return _by_code(folder, "Note.of") | _by_code(folder, "Note")


def _by_code(folder: Path, made_by: str) -> dict[str, Coded]:
    found: dict[str, Coded] = {}
    for path in sorted(folder.rglob("*.py")):
        texts: dict[str, str] = {}  # of variables, where a sentence is too long for the line that raises it
        for node in _in_order(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign):
                texts |= _assigned(node.targets[0], node.value)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                texts[node.target.id] = texts.get(node.target.id, "") + _text(node.value, texts)
            if isinstance(node, ast.Call) and _made_by(node) == made_by:
                found |= _coded(node, texts)
    return found


def _made_by(call: ast.Call) -> str:
    """The class of a sentence or of a note; empty for errors."""
    name = ast.unparse(call.func).removeprefix("tts_infer.")
    return name if name in ("Sentence", "Note", "Note.of") else ""


def _in_order(tree: ast.AST) -> Sequence[ast.AST]:
    nodes: list[ast.Assign | ast.AugAssign | ast.Call] = [
        node for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.AugAssign, ast.Call))
    ]
    return sorted(nodes, key=lambda node: (node.lineno, node.col_offset))


def _assigned(target: ast.expr, value: ast.expr) -> dict[str, str]:
    """The texts that an assignment gives to names."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=True)
        return {name: text for one, other in pairs for name, text in _assigned(one, other).items()}
    return {target.id: _text(value, {})} if isinstance(target, ast.Name) and _text(value, {}) else {}


def _text(node: ast.expr, texts: dict[str, str]) -> str:
    """The text that an expression is, as far as it can be told."""
    if isinstance(node, ast.Name):
        return texts.get(node.id, "")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _coded(call: ast.Call, texts: dict[str, str]) -> dict[str, Coded]:
    """The code of a call and its error, if it has a code."""
    given, texts_given = {keyword.arg: keyword.value for keyword in call.keywords}, list(call.args)
    code = _code(texts_given.pop(0) if _made_by(call) == "Note" else given.pop("code", None))
    if not code or not texts_given:
        return {}
    template = _text(texts_given[0], texts)
    # of `**fields`, the template says the names
    names = fields_of(template) if None in given else {name for name in given if name} - {"where"}
    return {code: Coded(template or ast.unparse(texts_given[0]), frozenset(names))}


def _code(node: ast.expr | None) -> str:
    """A code as it is written; * stands for the values in it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, {}) or "*" for part in node.values)
    return _text(node, {}) if node else ""


def known_errors() -> dict[str, Coded]:
    """The errors of the package and of the page."""
    return errors_by_code(ROOT / "tts_infer") | errors_by_code(ROOT / "ui")


def fields_of(template: str) -> set[str]:
    """The names of the values in a format string."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def untranslated() -> dict[str, str]:
    """English templates without a Chinese one, of the page and of those rooms that it uses."""
    written = json.loads((ROOT / "ui" / "i18n" / "zh.json").read_text(encoding="utf-8"))["errors"]
    others = {code for room in UNUSED_ROOMS for code in errors_by_code(ROOT / "tts_infer" / room)}
    known = known_errors()
    return {code: known[code].template for code in known if not fnmatch.filter(written, code) and code not in others}


if __name__ == "__main__":
    for code, text in untranslated().items():
        print(f"{code}: {text}")
