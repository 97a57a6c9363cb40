"""Parsers and checks alone; ``tests/contracts/test_run_files.py`` damages the files that are read with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bm3_pyg.errors import RunError
from bm3_pyg.train import plain
from bm3_pyg.train.plain import Check


@pytest.mark.parametrize(
    ("text", "expected"), [('{"a": [1, 2.5, null, true, "b"]}', {"a": [1, 2.5, None, True, "b"]}), ("[]", []), ("7", 7)]
)
def test_what_is_plain_is_read(text: str, expected: object) -> None:
    assert plain.parse_json(text, "x") == plain.parse_yaml(text, "x") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": 1, "b": 2}}', "key 'b' stands twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[" * 100_000, "nested too deeply"),
        ("{'a': 1}", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_not_plain(text: str, message: str) -> None:
    with pytest.raises(RunError, match=rf"^x: not JSON \(.*{message}"):
        plain.parse_json(text, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 1, b: 2}", "line 1: key 'b' stands twice"),
        ("a: 1\nb: !!python/object/apply:os.getpid []", "line 2 has an alias or a tag"),
        ("a: &one 1\nb: *one", "line 2 has an alias or a tag"),
        ("[" * 30 + "]" * 30, "line 1 is nested too deeply"),
        ("a: 2021-99-99", "month must be in"),
        ("a: [", "while parsing"),
    ],
)
def test_yaml_that_is_not_plain(text: str, message: str) -> None:
    with pytest.raises(RunError, match=rf"^x: not YAML \(.*{message}"):
        plain.parse_yaml(text, "x")


SHAPE = plain.mapping({"name": plain.text}, {"sizes": plain.listing(plain.integer(1, 4))})
CHECKS: list[tuple[Check, list[Any], list[tuple[Any, str]]]] = [
    (plain.exactly(1), [1], [(True, "got True, expected 1"), (1.0, "got 1.0"), (2, "got 2")]),
    (plain.integer(0, 3), [0, 2], [(3, "got 3, expected an integer from 0 to 2"), (-1, "-1"), (True, "T"), (1.0, "1")]),
    (plain.number(0, 1), [0, 1, 0.5], [(1.5, "expected a finite number at least 0 and at most 1"), (False, "F")]),
    (
        plain.number(),
        [-1e300, 3],
        [(float("nan"), "got nan"), (float("inf"), "got inf"), (10**400, "more than 30 dig")],
    ),
    (plain.boolean, [True], [(1, "got 1, expected true or false")]),
    (plain.text, ["a"], [("", "got '', expected text"), (None, "got None")]),
    (plain.string, ["a", ""], [(1, "got 1, expected text")]),
    (plain.option, [1, "a", None, [1, None]], [({}, "a mapping of 0 keys"), ([[1]], "number 1: got a list of 1")]),
    (plain.maybe(plain.text), [None, "a"], [("", "expected text")]),
    (plain.mapping_of(plain.text, "[ab]+"), [{}, {"ab": "x"}], [({"c": "x"}, "unknown key 'c'"), ({1: "x"}, "key 1")]),
    (SHAPE, [{"name": "a"}, {"name": "a", "sizes": [1, 3]}], [({}, "no key 'name'"), ({"nam": ""}, "did you mean")]),
    (SHAPE, [], [({"name": "a", "sizes": [1, 4]}, "sizes: number 2: got 4, expected an integer from 1 to 3")]),
    (
        plain.figures("recall@20"),
        [{}, {"recall@20": 1}],
        [({"ndcg@20": 0}, "no key 'recall@20'"), ({"x@1": 0}, "unkn")],
    ),
    (
        plain.figures(),
        [],
        [({"recall@5": 0, "recall@20": 0, "ndcg@5": 0}, "no key 'ndcg@20'"), ({"map@1": 2}, "got 2")],
    ),
]


@pytest.mark.parametrize(("check", "sound", "wrong"), CHECKS)
def test_checks(check: Check, sound: list[Any], wrong: list[tuple[Any, str]]) -> None:
    for value in sound:
        found = check(value, "x")
        assert (type(found), found) == (type(value), value)
    for value, message in wrong:
        with pytest.raises(RunError, match=f"^x: .*{message}"):
            check(value, "x")


def test_only_files_of_a_fitting_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert plain.read_bytes(tmp_path / "file", 5) == plain.read_bytes(tmp_path / "link") == b"12345"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to("nowhere")
    for name, message in (
        ("file", "5 bytes, expected at most 4"),
        (".", "a folder, expected a file"),
        ("pipe", "a device, expected a file"),
        ("lost", "a link to nothing"),
        ("none", "no such file"),
    ):
        with pytest.raises(RunError, match=message):
            plain.read_bytes(tmp_path / name, 4)


def test_text_is_utf8() -> None:
    assert plain.to_text("é".encode(), Path("x")) == "é"
    with pytest.raises(RunError, match=r"x: not UTF-8 \(byte 3 is 0xe9\)"):
        plain.to_text(b"caf\xe9", Path("x"))
