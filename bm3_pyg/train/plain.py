"""Plain files read with suspicion: JSON and YAML whose every key and value is checked before anybody sees them.

A check takes a value and where it stands, and returns the value or raises :class:`~bm3_pyg.errors.RunError`.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from bm3_pyg.errors import RunError, nearest, one_line, shown

Check = Callable[[Any, str], Any]
SCHEMA = 1
"""Of the files of runs and sweeps."""
LIMIT = 1 << 24  # bytes; the parsers take a multiple of it
DEPTH = 20


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a regular file of at most ``limit`` bytes."""
    require_file(path, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error


def require_file(path: Path, limit: float = math.inf) -> None:
    """Raise :class:`RunError` unless ``path`` is a regular file, or a link to one, of at most ``limit`` bytes."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise RunError(f"{path}: {'a link to nothing' if path.is_symlink() else 'no such file'}") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{path}: {'a folder' if stat.S_ISDIR(status.st_mode) else 'a device'}, expected a file")
    if status.st_size > limit:
        raise RunError(f"{path}: {status.st_size:,} bytes, expected at most {limit:,}")


def to_text(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 (byte {error.start:,} is 0x{raw[error.start]:02x})") from None


def parse_json(text: str, where: str) -> Any:
    """JSON without repeated keys, NaN or infinity."""
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise RunError(f"{where}: not JSON (nested too deeply)") from None
    except ValueError as error:
        raise RunError(f"{where}: not JSON ({one_line(error)})") from None


def parse_yaml(text: str, where: str) -> Any:
    """YAML without repeated keys, aliases, tags or deep nesting, none of which a run's files have."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except Exception as error:  # PyYAML raises many kinds for what begins like a date or number
        raise RunError(f"{where}: not YAML ({one_line(error)})") from None


def fault(where: str, value: object, expected: str) -> NoReturn:
    """Raise the :class:`RunError` of a wrong value."""
    raise RunError(f"{where}: got {short(value)}, expected {expected}")


def short(value: object) -> str:
    """A value of any size in a few words."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value):,} keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value):,}"
    if isinstance(value, int) and value.bit_length() > 100:
        return "an integer of more than 30 digits"
    return shown(value) if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"


def exactly(expected: object) -> Check:
    def check(value: Any, where: str) -> Any:
        return value if type(value) is type(expected) and value == expected else fault(where, value, repr(expected))

    return check


def integer(low: int = 0, high: int = 1 << 62) -> Check:
    """An integer in [low, high)."""

    def check(value: Any, where: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < high:
            fault(where, value, f"an integer from {low:,} to {high - 1:,}")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in [low, high]."""

    def check(value: Any, where: str) -> Any:
        sound = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not sound or not low <= value <= high or not abs(value) < 2.0**1000:
            bounds = [f"{word} {end:g}" for word, end in (("at least", low), ("at most", high)) if math.isfinite(end)]
            fault(where, value, " ".join(["a finite number", " and ".join(bounds)]).strip())
        return value

    return check


def anything(value: Any, where: str) -> Any:
    return value


def boolean(value: Any, where: str) -> Any:
    return value if isinstance(value, bool) else fault(where, value, "true or false")


def text(value: Any, where: str) -> Any:
    return value if isinstance(value, str) and value else fault(where, value, "text")


def string(value: Any, where: str) -> Any:
    """Text, which may be empty."""
    return value if isinstance(value, str) else fault(where, value, "text")


def scalar(value: Any, where: str) -> Any:
    """A number, text, true, false or null."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number()(value, where)
    return value if value is None or isinstance(value, (str, bool)) else fault(where, value, "a number or text")


def option(value: Any, where: str) -> Any:
    """A scalar, or a list of them."""
    return listing(scalar)(value, where) if isinstance(value, list) else scalar(value, where)


def maybe(check: Check) -> Check:
    """``check``, or null."""
    return lambda value, where: None if value is None else check(value, where)


def listing(check: Check) -> Check:
    """A list whose every element passes ``check``."""

    def checked(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            fault(where, value, "a list")
        return [check(element, f"{where}: number {place}") for place, element in enumerate(value, 1)]

    return checked


def mapping_of(check: Check, name: str = "") -> Check:
    """A mapping whose keys match the pattern ``name`` and whose every value passes ``check``."""

    def checked(value: Any, where: str) -> Any:
        for key in _keys(value, where):
            if name and not re.fullmatch(name, key):
                raise RunError(f"{where}: unknown key {short(key)}")
        return {
            key: check(own, f"{where}: {key if key.isprintable() and len(key) < 60 else shown(key)}")
            for key, own in value.items()
        }

    return checked


def mapping(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A mapping with these keys, and no others."""
    known = {**required, **(optional or {})}

    def checked(value: Any, where: str) -> Any:
        keys = _keys(value, where)
        if "schema" in required:  # first: of another version nothing else is known
            required["schema"](value.get("schema"), f"{where}: schema")
        for key in keys:
            if key not in known:
                raise RunError(f"{where}: unknown key {short(key)}, {nearest(key[:60], known)}")
        if missing := [key for key in required if key not in keys]:
            raise RunError(f"{where}: no key {missing[0]!r}, expected {', '.join(required)}")
        return {key: known[key](own, f"{where}: {key}") for key, own in value.items()}

    return checked


def figures(*needed: str) -> Check:
    """Metrics, these among them and each at every cut-off, or none at all."""
    check = mapping_of(number(0, 1), r"(recall|ndcg|precision|map|mrr|hitrate)@[1-9][0-9]*")

    def checked(value: Any, where: str) -> Any:
        values = check(value, where)
        names, cutoffs = ({name.split("@")[part] for name in values} for part in (0, 1))
        every = [f"{name}@{cutoff}" for name in sorted(names) for cutoff in sorted(cutoffs, key=int)]
        if missing := [name for name in (*needed, *every) if values and name not in values]:
            raise RunError(f"{where}: no key {missing[0]!r}")
        return values

    return checked


def _keys(value: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        fault(where, value, "a mapping")
    if other := [key for key in value if not isinstance(key, str)]:
        raise RunError(f"{where}: got the key {short(other[0])}, expected text")
    return list(value)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := _repeated([key for key, _ in pairs])) is not None:
        raise ValueError(f"key {short(twice)} stands twice")
    return dict(pairs)


def _repeated(keys: list[str]) -> str | None:
    return max(Counter(keys), key=Counter(keys).__getitem__) if len(set(keys)) < len(keys) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


class _PlainLoader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1} has an alias or a tag")
        if self.depth == DEPTH:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1} is nested too deeply")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if (twice := _repeated([str(key.value) for key, _ in node.value])) is not None:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: key {short(twice)} stands twice")
        return super().construct_mapping(node, deep)
