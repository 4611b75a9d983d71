"""Read YAML and JSON files strictly and within bounds: of their size, of what aliases expand to, and of numbers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tts_infer.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000
_MAX_VALUES = 100_000  # of a document, once its aliases are expanded
_MAX_DIGITS = 40

# The loader written in C, if the yaml package has it: as safe, and ten times as fast.
_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SAFE_LOADER):
    """A safe loader that refuses repeated keys; the plain one silently keeps the last."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded(node, {}) > _MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"it expands to more than {_MAX_VALUES} values")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} is given twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _MAX_DIGITS:
            raise yaml.constructor.ConstructorError(None, None, f"a number has {len(node.value)} digits")
        return int(self.construct_yaml_int(node))


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_integer)
# YAML 1.1 wants a dot in every float, and reads 1e-5 as text. People write 1e-5.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), "-+0123456789"
)


def _expanded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for once aliases are expanded; infinite for one that contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        children = [one for pair in inner for one in pair] if isinstance(node, yaml.MappingNode) else inner
        known[id(node)] = 1 + sum(_expanded(one, known) for one in children)
    return known[id(node)]


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping, with the safe loader.

    Raises:
        ConfigError: the file cannot be read, is too large, is not YAML, or holds something other than a mapping.
    """
    text = _read_text(path)
    try:
        document = yaml.load(text, _StrictLoader)
    # yaml raises ValueError and AttributeError for malformed numbers and dates, RecursionError for deep nesting
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError("{path} is not valid YAML: {reason}", code="yaml-invalid", path=path, reason=reason) from None
    return as_mapping(document, str(path))


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is a mapping.

    Raises:
        ConfigError: the file cannot be read, is too large, is not JSON, repeats a key, or holds something other than a
            mapping.
    """
    return parse_json(_read_text(path), str(path))


def parse_json(content: str | bytes, where: str) -> dict[str, Any]:
    """Read JSON text whose top level is a mapping. `where` is its name in messages.

    Raises:
        ConfigError: it is not JSON, repeats a key, or holds something other than a mapping.
    """
    try:
        document = json.loads(content, object_pairs_hook=_unrepeated, parse_int=_integer)
    except (ValueError, RecursionError) as error:  # ValueError: also no UTF-8
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            "{path} is not valid JSON: {reason}", code="json-invalid", path=where, reason=reason
        ) from None
    return as_mapping(document, where)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"key {repeated[0]!r} is given twice")
    return dict(pairs)


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError("cannot read {path}: {reason}", code="config-unreadable", path=path, reason=reason) from None
    except ValueError as error:  # the path contains a NUL character
        raise ConfigError(
            "cannot read {path!r}: {reason}", code="config-path-invalid", path=str(path), reason=str(error)
        ) from None
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(
            "{path} is larger than {limit} bytes; it is no configuration",
            code="config-too-large",
            path=path,
            limit=MAX_CONFIG_BYTES,
        )
    return text


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """The value, if it is a mapping with strings as keys.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(
            "expected a mapping of names to values, got {got}",
            code="config-mapping",
            where=where,
            got=type(value).__name__,
        )
    return value
