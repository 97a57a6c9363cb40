"""Texts of others (ids, names of files and columns, labels) in what people read: shown as they are, never obeyed."""

from __future__ import annotations

import re
import shlex

_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_MARKUP = re.compile(r"[\\`*~\[\]|]|(?<!\w)_|_(?!\w)|^[#+=-]+(?=\s|$)")
_BARE = frozenset(b"\\'") | frozenset(range(32)) | frozenset(range(127, 256))


def printable(text: str) -> str:
    """``text`` with control characters, marks of writing direction and lone surrogates as Python escapes them; line
    ends and tabs stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def markdown(text: str) -> str:
    """``text`` as Markdown shows it, :func:`printable` and in one line: no tags, links, emphasis or new columns."""
    text = " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", text)


def shell(argument: str) -> str:
    """One argument of a command as bash and zsh read it, on one line and :func:`printable`."""
    if printable(argument) == argument and not set(argument) & {"\n", "\t"}:
        return shlex.quote(argument)
    raw = argument.encode("utf-8", "surrogateescape")
    return "$'" + "".join(f"\\x{byte:02x}" if byte in _BARE else chr(byte) for byte in raw) + "'"
