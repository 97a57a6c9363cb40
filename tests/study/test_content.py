"""The report as plain values."""

from __future__ import annotations

import json

from bm3_pyg.study.content import Report


def test_a_report_is_json_with_its_schema(made_report: Report) -> None:
    plain = json.loads(json.dumps(made_report.plain()))
    assert plain["schema"] == 1
    assert plain["title"] == made_report.title
    assert len(plain["sections"]) == len(made_report.sections)
    first, row = plain["sections"][0], made_report.sections[0].rows[0]
    assert first["rows"][0]["test"]["recall@20"]["values"] == list(row.test["recall@20"].values)
