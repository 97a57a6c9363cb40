from __future__ import annotations

import subprocess

import pytest

from bm3_pyg.escape import markdown, printable, shell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 漢 😀\tand\nso on", "plain é 漢 😀\tand\nso on"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\x9b31m \x7f \u2028 \ufeff", r"\x9b31m \x7f \u2028 \ufeff"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clicks_2024.csv", "clicks_2024.csv"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("a|b `c` *d* [e](f) ~~g~~", r"a\|b \`c\` \*d\* \[e\](f) \~\~g\~\~"),
        ("# no heading", r"\# no heading"),
        ("- no list", r"\- no list"),
        ("two\n\nlines\tand a tab", "two lines and a tab"),
        ("_a_", r"\_a\_"),
        ("\x1b[31m", r"\\x1b\[31m"),
    ],
)
def test_markdown_shows_it_as_it_is(text: str, expected: str) -> None:
    assert markdown(text) == expected


@pytest.mark.parametrize(
    "text", ["plain", "a b", "it's", "\x1b[31m", "a\nb", "\u202ex'\\", "é\t", "$(touch x) `y` $z", "\udcff", "-x", ""]
)
def test_a_shell_reads_the_argument_back(text: str) -> None:
    written = shell(text)
    assert printable(written) == written
    assert "\n" not in written
    out = subprocess.run(["bash", "-c", f"printf %s {written}"], capture_output=True, check=True).stdout
    assert out.decode("utf-8", "surrogateescape") == text
