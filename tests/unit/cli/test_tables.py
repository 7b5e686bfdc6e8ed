import json

import pytest

from overlayd.cli import tables


def test_cells_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(tables.table("Endpoints", ("MAC", "problem"), [("2e:cd:8b:23:c3:c4", "pools[0] [red]is[/] wrong")]))
    shown = capsys.readouterr().out
    assert "2e:cd:8b:23:c3:c4" in shown
    assert "pools[0] [red]is[/] wrong" in shown


def test_a_missing_value_is_an_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(tables.table("Hosts", ("name", "revision"), [("host1", None)]))
    assert "None" not in capsys.readouterr().out


def test_a_table_without_rows_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(tables.table("Networks", ("name",), []))
    assert capsys.readouterr().out == "no networks\n"


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
