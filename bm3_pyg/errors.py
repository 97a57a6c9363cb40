"""What can go wrong in a way a user can mend. Each message is one line: where, what was found, what was expected."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable

LONGEST = 80  # characters of a value that a message shows whole


class BM3Error(Exception):
    """Base of every error this package raises on purpose; the ``bm3`` command prints it as one line and exits 2."""


class DataError(BM3Error):
    """A file or table does not hold what it should."""


class ConfigError(BM3Error):
    """A setting is unknown, of the wrong type or out of range."""


class RunError(BM3Error):
    """A run directory cannot be written, resumed or loaded."""


class InUseError(RunError):
    """Another process, or thread, works in a folder."""


class WriteError(BM3Error):
    """A file or folder cannot be written: the disk is full, permission is denied."""


class TrainingError(BM3Error):
    """Training cannot go on, for example because the loss is no longer finite."""


def check_number(name: str, value: object, kind: type, low: float, high: float = float("inf")) -> None:
    """Raise :class:`ConfigError` unless ``value`` is of type ``kind`` (``int`` or ``float``) in ``[low, high)``."""
    accepted = (int, float) if kind is float else (int,)
    large = kind is float and isinstance(value, int) and abs(value) >= 2**63  # no tensor can be multiplied by it
    if isinstance(value, bool) or not isinstance(value, accepted) or large or not low <= value < high:
        bounds = f"at least {low:g}" + (", with a point or an exponent where it is so large" if large else "")
        if high != float("inf"):
            bounds += f" and below {high if kind is int else format(high, 'g')}"
        raise ConfigError(
            f"{name}: got {shown(value)}, expected {'a number' if kind is float else 'an integer'} {bounds}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the known name most like ``name``, or the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"


def shown(value: object) -> str:
    """``repr(value)``, cut where it is long, for messages; control characters and the like are escaped in it."""
    if isinstance(value, (str, bytes)) and len(value) > LONGEST:
        return f"{value[: LONGEST // 2]!r}... ({len(value):,} {'characters' if isinstance(value, str) else 'bytes'})"
    text = repr(value)
    return text if len(text) <= 4 * LONGEST else f"{text[:LONGEST]}..."


def named(name: str) -> str:
    """A name from a file for messages: as it is where it is short and plain, else as :func:`shown` does."""
    return name if 0 < len(name) <= LONGEST and name.isprintable() and name == name.strip() else shown(name)


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def warn_once(message: str, *details: object) -> None:
    """Log ``message % details``, the first time only that this process says ``message``."""
    if message not in _said:
        _said.add(message)
        logging.getLogger("bm3_pyg").warning(message, *details)


_said: set[str] = set()
