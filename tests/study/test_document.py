from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bm3_pyg.data import describe, load_dataset
from bm3_pyg.study.blocks import Commands, Document, Plot, Table, Words
from bm3_pyg.study.content import Report, Section
from bm3_pyg.study.document import document

BEST, CLOSE, FAR = "<script>alert(1)</script>", "a_b&c% $x$ #1 | {y}", "_hidden"
ORDER = [
    "Results", "Published figures", "Significance", "Protocol", "Dataset", "Strata", "Ablations", "Validation",
    "Losses", "Beyond accuracy", "Time and memory", "Search", "Environment", "Commands", "Files",
]  # fmt: skip


def table(shown: Document, caption: str) -> dict[str, list[str]]:
    """Texts of the first part's table with that caption, by the first cell."""
    found = [
        block
        for chapter in shown.parts[0].chapters
        for block in chapter.blocks
        if isinstance(block, Table) and block.caption.startswith(caption)
    ]
    return {row[0].text: [cell.text for cell in row[1:]] for row in found[0].rows}


def test_chapters_come_in_the_order_of_reading_and_empty_ones_are_left_out(made_report: Report) -> None:
    full, bare = document(made_report).parts
    assert [chapter.title for chapter in full.chapters] == ORDER
    assert [chapter.title for chapter in bare.chapters] == ["Results", "Protocol", "Dataset"]


def test_the_lead_says_what_was_compared_and_what_came_out(made_report: Report) -> None:
    first, second = document(made_report).lead
    assert "shop (1,200 users, 34 items, 5,000 interactions) over 2 seeds." in first
    best = f"The highest test Recall@20 is that of {BEST}, 0.1010 ± 0.0014"
    assert f"{best}; the paired test over users tells it from 1 of the 2 others" in first
    assert second == "BM3 on other over 1 seed. Test Recall@20: 0.1000."


def test_warnings_of_sections_name_their_dataset_only_if_there_are_several(made_report: Report) -> None:
    assert document(made_report).warnings == ("the runs are on 2 datasets", "shop: no seed 2 of <b>far</b>")
    alone = replace(made_report, sections=made_report.sections[:1], warnings=())
    assert document(alone).warnings == ("no seed 2 of <b>far</b>",)


def test_sections_on_datasets_of_one_name_have_names_of_their_own(made_report: Report) -> None:
    section = made_report.sections[0]
    other = replace(section, dataset={**section.dataset, "fingerprint": "e" * 64})
    names = [part.title for part in document(replace(made_report, sections=(section, other))).parts]
    assert names == ["shop, section 1 (ffffffff)", "shop, section 2 (eeeeeeee)"]


def test_a_report_of_nothing_says_so(made_report: Report) -> None:
    bare = made_report.sections[1]
    shown = document(replace(made_report, sections=(replace(bare, rows=(), dataset={}),)))
    assert shown.parts[0].chapters == ()
    assert shown.lead == ("No finished model on dataset.",)


def test_tables_say_what_the_report_holds(made_report: Report) -> None:
    shown = document(made_report)
    assert table(shown, f"{BEST} minus")[FAR] == [
        "Recall@20",
        "+0.0500",
        "+0.0400 to +0.0600",
        "1.0e-09",
        "2.0e-09",
        "",
        "",
        "100",
    ]
    assert table(shown, f"{BEST} minus")[CLOSE][-2] == "0.500"
    assert table(shown, "Ours")["an <article>"] == ["published", "0.0880"]
    assert table(shown, "Changes")["masking off"][:3] == ["2", "0.0550 ± 0.0071", "+0.0500"]
    assert table(shown, "Recall@20 by user activity")[FAR] == ["0.0400", "0.1000"]
    assert table(shown, "Hit@20 of cold items")[FAR] == ["0.0000"]
    assert table(shown, "At the selected epoch")[BEST] == ["1.7500", "0.0000", "0.4500"]
    assert table(shown, "At the selected epoch")[FAR] == ["-1.0000", "", ""]
    assert table(shown, "Lists")[BEST] == ["0.5000", "100.2500"]
    assert table(shown, "Costs")[BEST] == ["3, 2", "112.5", "0.500", "", "1,234"]
    assert table(shown, "Every setting tried")["bm3 num_layers=1"] == ["0", "", ""]
    assert table(shown, "Where")["commit"] == ["abc, def"]
    assert table(shown, "Where")["torch"] == ["2.6"]
    assert table(shown, "Splits")["val"] == ["500", "500", "30", "0"]


def test_every_kind_of_block_is_there(made_report: Report) -> None:
    kinds = {
        type(block) for part in document(made_report).parts for chapter in part.chapters for block in chapter.blocks
    }
    assert kinds == {Words, Table, Plot, Commands}


def tables_of(card: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Texts of the tables of a dataset's card, by their captions and first cells."""
    chapters = document(Report("", (Section(card, (), ()),))).parts[0].chapters
    blocks = [block for chapter in chapters for block in chapter.blocks if isinstance(block, Table)]
    return {block.caption: {row[0].text: [cell.text for cell in row[1:]] for row in block.rows} for block in blocks}


def test_a_whole_card(shop: Path) -> None:
    card = describe(load_dataset(shop))
    shown = tables_of(card)
    facts, files = shown["Card"], shown["What the dataset was made from"]
    assert facts["users"] == ["12"]
    assert facts["items"] == ["8"]
    assert facts["feature image"] == ["5-d, 0 items without"]
    assert facts["training interactions per user"] == ["4 to 4, median 4, mean 4.00"]
    assert facts["interactions in two splits"] == ["none"]
    assert files["SHA-256 of shop.inter"] == [card["files"]["shop.inter"]]
    assert files["fingerprint"] == [card["fingerprint"]]
    assert not facts.keys() & files.keys()
    assert shown["Splits"] == {
        "train": ["48", "12", "8", "0"],
        "val": ["12", "12", "8", "0"],
        "test": ["12", "12", "8", "0"],
    }


def test_what_runs_know_of_a_dataset_is_enough() -> None:
    card = {"name": "shop", "modalities": {"image": {"dim": 4096}}, "files": {}, "fingerprint": "f"}
    assert tables_of(card) == {
        "Card": {"name": ["shop"], "feature image": ["4,096-d"]},
        "What the dataset was made from": {"fingerprint": ["f"]},
    }
    assert tables_of({}) == {}


def test_leaks(shop: Path) -> None:
    card = {**describe(load_dataset(shop)), "leaks": {"train-val": 2, "val-test": 0}}
    assert tables_of(card)["Card"]["interactions in two splits"] == ["2 (train-val)"]
