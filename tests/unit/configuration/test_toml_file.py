"""A file of settings names the line of what is wrong with it, and changes without losing what people wrote."""

from pathlib import Path

import pytest

from overlayd.configuration import toml_file
from overlayd.configuration.toml_file import SIZE_MAX, TomlFile, changed, parse

PATH = Path("/etc/overlayd/agent.toml")

TEXT = '''# The agent.

controller = [ # both
  "https://10.0.0.1:7471",

  "https://10.0.0.2:7471", # the second
]
name = """
a # no comment
"""
'''


def places(text: str) -> list[str]:
    return [f"{fault.place}: {fault.detail}" for fault in parse(PATH, text).faults]


def test_statements_know_their_lines() -> None:
    file = parse(PATH, TEXT + 'vtep = "10.0.0.1"\r\nresync = 5')
    assert [(each.key, each.first, each.last) for each in file.statements] == [
        ("controller", 3, 7),
        ("name", 8, 10),
        ("vtep", 11, 11),
        ("resync", 12, 12),
    ]
    assert file.faults == ()
    found = file.find("controller")
    assert found
    assert found.value == ["https://10.0.0.1:7471", "https://10.0.0.2:7471"]
    assert file.find("state-dir") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = \nc = 2", "/etc/overlayd/agent.toml:2: is no TOML: Invalid value"),
        ("a = 1\n\nb = [1,\nc = 2\n", "/etc/overlayd/agent.toml:3: is no TOML: "),
        ("a = 1\nb = 10.0.0.1", "/etc/overlayd/agent.toml:2: is no TOML: "),
        ("vtep", "/etc/overlayd/agent.toml:1: is no TOML: "),
        ("a = 1\nb = 2\na = 3", "/etc/overlayd/agent.toml:3: a: is set in line 1 already"),
        ("a = 1\n[etcd]\n", "/etc/overlayd/agent.toml:2: etcd: there are no tables here: each setting has one key"),
        ("a = 1\nb = " + "9" * 5000, "/etc/overlayd/agent.toml:2: has a number too long, or brackets too deep"),
        ("a = 1\nb = " + "[" * 5000, "/etc/overlayd/agent.toml:2: has a number too long, or brackets too deep"),
        ("a = 0x" + "f" * 5000, "/etc/overlayd/agent.toml:1: a: has an integer of more than 64 bits"),
        ("a = [[9223372036854775808]]", "/etc/overlayd/agent.toml:1: a: has an integer of more than 64 bits"),
        ('a = "b"\nc = ["d", "e\\u0000"]', "/etc/overlayd/agent.toml:2: c: has a null character"),
        ("etcd.ca = 1", "/etc/overlayd/agent.toml:1: etcd: there are no tables here: each setting has one key"),
    ],
)
def test_a_fault_names_its_line(text: str, expected: str) -> None:
    (place,) = places(text)
    assert place.startswith(expected)


def test_every_fault_is_found_up_to_one_of_the_syntax() -> None:
    assert [fault.line for fault in parse(PATH, "a = 1\na = 2\n[x]\nb = {\nc = 1\nc = 2\n").faults] == [2, 3, 4]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\xff", "is not UTF-8 text"), (b"#" * (SIZE_MAX + 1), "has more than 65536 bytes")],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(content)
    (fault,) = toml_file.read(path).faults
    assert (fault.place, fault.detail) == (str(path), expected)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (fault,) = toml_file.read(tmp_path / "missing").faults
    assert str(fault.error) == f"{tmp_path}/missing: cannot be read: No such file or directory"


def test_a_file_that_need_not_be_there_says_nothing(tmp_path: Path) -> None:
    assert toml_file.read(tmp_path / "missing", may_be_missing=True) == TomlFile(tmp_path / "missing")
    (fault,) = toml_file.read(tmp_path, may_be_missing=True).faults
    assert fault.detail == "cannot be read: Is a directory"


def test_a_change_leaves_everything_else_as_it_is() -> None:
    after = changed(TEXT, {"vtep": "10.0.0.1", "controller": ["https://a"]})
    assert after == TEXT.replace(
        TEXT[TEXT.index("controller") : TEXT.index("name")], 'controller = ["https://a"]\n'
    ) + ('vtep = "10.0.0.1"\n')
    assert changed(after, {"vtep": "10.0.0.1"}) == after


@pytest.mark.parametrize("value", ['say "no"', "back\\slash", "tab\tend\x7f", "Zürich ☂", "", ["a", 'b"c']])
def test_what_is_written_is_read(value: str | list[str]) -> None:
    (found,) = parse(PATH, changed("", {"name": value})).statements
    assert found.value == value
