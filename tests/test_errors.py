from __future__ import annotations

import pytest

from bm3_pyg.errors import ConfigError, check_number, nearest, one_line, shown


@pytest.mark.parametrize("value", [-1, 5, 2.0, True, "2", None, float("nan")])
def test_a_number_out_of_bounds_or_of_another_type(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^k: got .*, expected an integer at least 0 and below 5$"):
        check_number("k", value, int, 0, 5)


def test_an_integer_will_do_for_a_number() -> None:
    for value in (1, 0.5, 0):
        check_number("rate", value, float, 0)
    with pytest.raises(ConfigError, match=r"^rate: got 1, expected a number at least 0 and below 1$"):
        check_number("rate", 1, float, 0, 1)


def test_the_nearest_name() -> None:
    assert nearest("layrs", ["layers", "rate"]) == "did you mean 'layers'?"
    assert nearest("zzz", ["layers", "rate"]) == "expected one of layers, rate"


def test_an_error_on_one_line() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(EOFError()) == "EOFError"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("\x1b[2J\u2028\u200b", r"'\x1b[2J\u2028\u200b'"),
        ("é" * 80, repr("é" * 80)),
        ("é" * 81, repr("é" * 40) + "... (81 characters)"),
        (b"x" * 3_000_000, repr(b"x" * 40) + "... (3,000,000 bytes)"),
        (1.5, "1.5"),
        (None, "None"),
    ],
)
def test_values_in_messages(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_values_in_messages_are_cut() -> None:
    assert len(shown("\x00" * 80)) <= 330
    assert len(shown(["\x00" * 80] * 1000)) < 100


def test_an_integer_beyond_64_bits_is_no_factor() -> None:
    check_number("weight", 1e30, float, 0)
    with pytest.raises(
        ConfigError, match=r"weight: got 10+, expected a number at least 0, with a point or an exponent"
    ):
        check_number("weight", 10**30, float, 0)
