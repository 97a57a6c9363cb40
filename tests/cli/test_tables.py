"""Tables of one's own on the command line: without a header, compressed, through a pipe, with any column names."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., None]
PAIRS = [(f"u{user}", f"i{(user + step) % 8}") for user in range(12) for step in range(6)]
LINES = "".join(f"{user},{item},5.0\n" for user, item in PAIRS)


def through_a_pipe(text: str) -> str:
    """What a shell gives a command for ``<(...)``."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(text.encode())

    threading.Thread(target=write, daemon=True).start()
    return f"/dev/fd/{reading}"


def fingerprint(bm3: Run, *source: str) -> str:
    code, out, err = bm3("data", "describe", *source, "--json")
    assert code == 0, err
    return str(json.loads(out)["fingerprint"])


@pytest.fixture
def clicks(bm3: Run) -> str:
    Path("clicks.csv").write_text(f"who,what,stars\n{LINES}")
    return fingerprint(bm3, "clicks.csv", "--user-column", "who", "--item-column", "what")


def test_a_table_without_a_header(bm3: Run, assert_refused: Refused, clicks: str) -> None:
    Path("bare.csv").write_text(LINES)
    assert_refused(
        bm3("data", "describe", "bare.csv"),
        "no column 'user'; found u0, i0, 5.0; is there no header? Then name all columns in their order: "
        "columns=user,item,... (--columns)",
    )
    assert fingerprint(bm3, "bare.csv", "--columns", "user,item,stars") == clicks
    assert_refused(bm3("data", "describe", "bare.csv", "--columns", "user,item"), "line 1: 3 cells, expected 2")
    code, _, err = bm3("train", "bare.csv", "--columns", "user,item,stars", "--out", "run", "--set", "max_epochs=1")
    assert code == 0, err
    assert bm3("evaluate", "run")[0] == 0


def test_compressed_tables_and_json_lines(bm3: Run, clicks: str) -> None:
    Path("clicks.csv.gz").write_bytes(gzip.compress(Path("clicks.csv").read_bytes()))
    Path("clicks.jsonl").write_text("".join(json.dumps({"who": user, "what": item}) + "\n" for user, item in PAIRS))
    for name in ("clicks.csv.gz", "clicks.jsonl"):
        assert fingerprint(bm3, name, "--user-column", "who", "--item-column", "what") == clicks


def test_a_pipe_is_trained_on_and_its_run_wants_the_data_again(bm3: Run, assert_refused: Refused, clicks: str) -> None:
    columns = ["--user-column", "who", "--item-column", "what"]
    pipe = through_a_pipe(f"who,what,stars\n{LINES}")
    code, _, err = bm3("train", pipe, *columns, "--out", "run", "--set", "max_epochs=1")
    assert code == 0, err
    assert_refused(bm3("evaluate", "run"), f"<{pipe}>: was a pipe, which can be read only once; save what it gave")
    code, _, err = bm3("evaluate", "run", "--data", "clicks.csv")
    assert code == 0, err
    code, _, err = bm3("recommend", "run", "--data", "clicks.csv", "--users", through_a_pipe("u1\nu2\n"), "--k", "2")
    assert code == 0, err
    assert pl.read_parquet("run/recommendations/top2.parquet")["user"].to_list() == ["u1", "u1", "u2", "u2"]
    pipe = through_a_pipe(f"who,what,stars\n{LINES}")
    assert_refused(bm3("sweep", pipe, *columns, "--out", "sweep"), f"<{pipe}>: was a pipe, which can be read only once")
    assert not Path("sweep", "sweep.yaml").exists()


def test_items_may_call_their_ids_otherwise(bm3: Run, assert_refused: Refused, clicks: str) -> None:
    Path("items.csv").write_text("sku,name\n" + "".join(f"i{item},item {item}\n" for item in range(8)))
    Path("size.csv").write_text(",sku,size\n" + "".join(f"{item},i{item},{item}\n" for item in range(7)))
    own = ["--interactions", "clicks.csv", "--items", "items.csv", "--features", "size=size.csv"]
    prepare = ["data", "prepare", *own, "--user-column", "who", "--item-column", "what", "--out", "shop"]
    assert_refused(bm3(*prepare), "items.csv: no column 'what'; found sku, name")
    code, out, err = bm3(*prepare, "--id-column", "sku")
    assert (code, out) == (0, "shop\n"), err
    card = json.loads(bm3("data", "describe", "shop", "--json")[1])
    assert card["modalities"] == {"size": {"dim": 1, "missing": 1}}


def test_what_is_odd_in_a_table_of_new_users_is_told(bm3: Run, clicks: str, caplog: pytest.LogCaptureFixture) -> None:
    bm3("train", "clicks.csv", "--user-column", "who", "--item-column", "what", "--out", "run", "--set", "max_epochs=1")
    Path("today.csv").write_text("user,item\n7.0,i3\n8.0,i4\n")
    caplog.clear()
    code, _, err = bm3("recommend", "run", "--new-users", "today.csv", "--k", "2")
    assert code == 0, err
    assert "today.csv: user holds integers as floats (7.0), read as integers" in caplog.text


def test_ids_and_new_users_from_tables(bm3: Run, clicks: str) -> None:
    bm3("train", "clicks.csv", "--user-column", "who", "--item-column", "what", "--out", "run", "--set", "max_epochs=1")
    pl.DataFrame({"what": ["i1", "i2"], "stock": [3, 4]}).write_parquet("stock.parquet")
    Path("today.jsonl.gz").write_bytes(gzip.compress(b'{"who": "new", "what": "i3"}\n{"who": "new", "what": "i4"}\n'))
    Path("other.tsv").write_text("visitor\tsku\nnew\ti3\nnew\ti4\n")
    lists = ["recommend", "run", "--candidates", "stock.parquet", "--k", "2", "--out", "lists.csv", "--new-users"]
    for arguments in (["today.jsonl.gz"], ["other.tsv", "--user-column", "visitor", "--item-column", "sku"]):
        if "sku" in arguments:
            lists[3] = "stock.txt"
            Path("stock.txt").write_text("i1\ni2\n")
        code, _, err = bm3(*lists, *arguments)
        assert code == 0, err
        assert sorted(pl.read_csv("lists.csv")["item"]) == ["i1", "i2"]
