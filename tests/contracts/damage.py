"""Damage to a file's bytes, lines, trees and tensors, drawn from a ``random.Random`` so that a seed repeats it."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml

TOKENS = (
    b'"', b"'", b",", b"\t", b";", b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b" ",
    b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xf0\x9f\x98\x80", b"\x1b[31m", b"#", b"\\", b"{", b"[" * 2000, b"]", b"nan",
    b"inf", b"-1", b"1e999", b"9" * 30, b"0.5", b"null", b"NULL", b"true", b"0", b"x" * 100_000, b'"a,b"', b'""',
    b"!!python/object:os.system",
    b"&a [*a]", b": ", b"- ", b"%", b"2021-02-30", b"2021-02-03T04:05:06+02:00",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 7, 10**30, -(10**30), 2**31, 2**63, 0.5, 1e308, float("nan"), float("inf"), "", "a",
    "é\n", "1", "\x1b[31m", "../x", "x" * 5000, [], {}, [[]], [None], {"a": 1}, [1, 2, 3], {"": None},
)  # fmt: skip
VALUES = (
    "0", "1", "2", "-1", "-0.0", "3", "10", "100", "4096", "10000", "2147483647", "2147483648", "9" * 30, "0.5",
    "0.999999", "1.0", "1e3", "1e-400", "1e400", "1e308", "1e-300", "nan", "inf", "-inf", "true", "false", "null", "",
    " ", "é", "x", "0x10", "1_000", "[]", "[image]", "[image,text]", "[image,image]", "image", "interactions", "[[1]]",
    "{a: 1}", "!!python/object:os.system", "\x1b[31m", "train", "seen", "x" * 5000,
)  # fmt: skip


def damage(path: Path, random: Random) -> str:
    """Damage one file in place; what was done, in words."""
    kinds = [_bytes, _bytes, _token, _cut_or_empty]
    if path.parent.name == "settings":
        return _setting(path, random)
    if path.suffix in (".json", ".yaml", ".jsonl"):
        kinds += [_tree, _tree, _tree, _lines]
    elif path.suffix in (".pt", ".pth"):
        kinds += [_checkpoint, _checkpoint]
    elif path.suffix == ".npy":
        kinds += [_array]
    elif path.suffix in (".inter", ".csv", ".tsv", ".txt"):
        kinds += [_lines, _token, _cell, _cell]
    elif path.suffix == ".gz":
        kinds += [_inside_gzip, _inside_gzip, _inside_gzip]
    kind = random.choice(kinds)
    try:
        return kind(path, random)
    except Exception:  # what is not a tree or an array cannot be changed as one
        return _bytes(path, random)


def _bytes(path: Path, random: Random) -> str:
    raw = bytearray(path.read_bytes())
    if not raw:
        return "nothing: empty"
    at, kind = random.randrange(len(raw)), random.choice(["flip", "flip", "insert", "delete", "zero", "repeat"])
    length = random.choice([1, 1, 2, 4, 16, 300])
    if kind == "flip":
        for _ in range(random.choice([1, 1, 3, 9])):
            raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    elif kind == "insert":
        raw[at:at] = random.randbytes(length)
    elif kind == "delete":
        del raw[at : at + length]
    elif kind == "zero":
        raw[at : at + length] = bytes(len(raw[at : at + length]))
    else:
        raw[at:at] = raw[at : at + length]
    path.write_bytes(raw)
    return f"{kind} at byte {at}"


def _token(path: Path, random: Random) -> str:
    raw, token = path.read_bytes(), random.choice(TOKENS)
    at = random.randrange(len(raw) + 1)
    path.write_bytes(raw[:at] + token + raw[at:])
    return f"{token[:20]!r} at byte {at}"


def _cut_or_empty(path: Path, random: Random) -> str:
    raw, kind = path.read_bytes(), random.choice(["cut", "cut", "cut", "empty", "gone", "folder", "doubled"])
    at = random.randrange(len(raw) + 1)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes({"cut": raw[:at], "empty": b"", "doubled": raw + raw}[kind])
    return f"{kind} at {at}"


def _lines(path: Path, random: Random) -> str:
    lines = path.read_bytes().split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.choice(["double", "swap", "drop", "blank", "join"])
    if kind == "double":
        lines.insert(other, lines[at])
    elif kind == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "drop":
        del lines[at]
    elif kind == "blank":
        lines.insert(at, random.choice([b"", b" ", b"\t", b"\r"]))
    else:
        lines[at : at + 2] = [b"".join(lines[at : at + 2])]
    path.write_bytes(b"\n".join(lines))
    return f"{kind} line {at + 1}"


def _cell(path: Path, random: Random) -> str:
    """Another value in one cell of a table."""
    lines = path.read_bytes().split(b"\n")
    at = random.randrange(len(lines))
    separator = b"\t" if b"\t" in lines[0] else b","
    cells = lines[at].split(separator)
    where = random.randrange(len(cells))
    value = random.choice(
        [b"", b" ", b"nan", b"-1", b"99999999999999999999", b"1e400", b'"', b'7" x', b'"a', b'a"', b" 7", b"\xc2\xa0",
         b"3", b"val", b"3.5", b"1700000000000", b"2020-01-01", b"x" * 100_000, b"'", b"\x1b]0;x\x07", b"\xe2\x80\xa8"]
    )  # fmt: skip
    cells[where] = value
    lines[at] = separator.join(cells)
    path.write_bytes(b"\n".join(lines))
    return f"line {at + 1}, cell {where + 1} is {value[:20]!r}"


def _setting(path: Path, random: Random) -> str:
    """One setting of a command with another value."""
    settings = json.loads(path.read_text())
    name, value = random.choice(list(settings)), random.choice(VALUES)
    path.write_text(json.dumps({**settings, name: value}))
    return f"{name}={value}"


def _inside_gzip(path: Path, random: Random) -> str:
    inner = path.with_suffix("")
    inner.write_bytes(gzip.decompress(path.read_bytes()))
    done = damage(inner, random)
    raw = inner.read_bytes() if inner.is_file() else b""
    inner.unlink() if inner.is_file() else inner.rmdir() if inner.is_dir() else None
    path.write_bytes(gzip.compress(raw))
    return f"within gzip: {done}"


def _tree(path: Path, random: Random) -> str:
    """Another value, type or key somewhere in a file of JSON, JSON lines or YAML."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    at = random.randrange(len(lines))
    tree = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(lines[at])
    tree, done = changed(tree, random)
    if path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=random.random() < 0.5), encoding="utf-8")
        return done
    lines[at] = json.dumps(tree)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return done


def changed(tree: Any, random: Random) -> tuple[Any, str]:
    """A tree of dicts and lists with one node replaced, dropped, renamed or nested; and what was done."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in children:
            places.append((node, key))
            walk(value)

    walk(tree)
    if not places or random.random() < 0.03:
        value = random.choice(ODD)
        return value, f"the whole is {str(value)[:30]!r}"
    node, key = random.choice(places)
    kind = random.choice(["replace", "replace", "replace", "drop", "add", "nest", "number"])
    if kind == "drop":
        del node[key]
    elif kind == "add":
        node.insert(key, random.choice(ODD)) if isinstance(node, list) else node.update({f"{key}s": random.choice(ODD)})
    elif kind == "nest":
        value = node[key]
        for _ in range(random.choice([1, 2, 900])):
            value = [value]
        node[key] = value
    elif kind == "number" and isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
        node[key] += random.choice([1, -1, 0.01, 1e-9])
    else:
        node[key] = random.choice(ODD)
    return tree, f"{kind} {key!r}: {str(node[key])[:30] if kind not in ('drop', 'nest') else ''}"


def _array(path: Path, random: Random) -> str:
    array = np.load(path)
    kind = random.choice(["nan", "dtype", "rows", "shape", "fortran", "objects", "empty"])
    if kind == "nan":
        array = array.astype(np.float32)
        array.flat[random.randrange(array.size)] = random.choice([np.nan, np.inf, 3e38])
    elif kind == "dtype":
        array = array.astype(random.choice(["<i8", ">f4", "<f2", "<c8", "<U4", "?", "<f8", "M8[s]"]))
    elif kind == "rows":
        array = np.concatenate([array, array[:1]]) if random.random() < 0.5 else array[:-1]
    elif kind == "shape":
        array = array.reshape(random.choice([(-1,), (1, -1), (*array.shape, 1)]))
    elif kind == "fortran":
        array = np.asfortranarray(array)
    elif kind == "objects":
        array = array.astype(object)
    else:
        array = array[:, :0] if array.ndim == 2 else array[:0]
    np.save(path, array, allow_pickle=True)
    return f"array: {kind}"


def _checkpoint(path: Path, random: Random) -> str:
    """A checkpoint written whole, with other content."""
    tree = torch.load(path, weights_only=False)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in list(children):
            places.append((node, key))
            walk(value)

    walk(tree)
    node, key = random.choice(places)
    value = node[key]
    kind = random.choice(["drop", "odd", "odd"])
    if isinstance(value, torch.Tensor) and random.random() < 0.8:
        kind = random.choice(["shape", "dtype", "nan", "empty"])
        node[key] = {
            "shape": lambda: value[:-1] if value.dim() else value.view(1),
            "dtype": lambda: value.to(random.choice([torch.float16, torch.float64, torch.int64, torch.bool])),
            "nan": lambda: torch.full_like(value, float("nan")) if value.is_floating_point() else -value.int(),
            "empty": lambda: value.new_empty(0),
        }[kind]()
    elif kind == "drop":
        del node[key]
    else:
        node[key] = random.choice(ODD)
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    path.write_bytes(buffer.getvalue())
    return f"checkpoint: {kind} {key!r}"
