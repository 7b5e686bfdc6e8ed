"""What `overlayd join` refuses before it asks a controller."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from overlayd.agent.program import app

URL = "https://10.0.0.1:7471"
TOKEN = f"ovj_{'a' * 12}_{'b' * 40}_{'c' * 64}"


@pytest.mark.parametrize(
    ("text", "arguments", "typed", "error"),
    [
        ("", ["http://10.0.0.1:7471"], TOKEN, "URL: http://10.0.0.1:7471 is without TLS: nothing is joined there"),
        ("", ["10.0.0.1"], TOKEN, "URL: '10.0.0.1' is not a URL such as"),
        ("", [URL], "", "standard input: is no join token"),
        ("", [URL], TOKEN.replace("ovj", "ovx"), "standard input: is no join token"),
        ("", [URL, "--token-file", "/nowhere"], "", "--token-file: /nowhere cannot be read"),
        ("", [URL, "--vtep", "127.0.0.1"], TOKEN, "--vtep: 127.0.0.1 is not a unicast address"),
        ("", [URL, "--name", "a\nb"], TOKEN, "--name: 'a\\nb' must have"),
        ("\nresnyc = 5", [URL], TOKEN, "FILE:2: resnyc: there is no such setting; did you mean resync?"),
        (
            'controller = "http://10.0.0.9"',
            [URL],
            TOKEN,
            "FILE:1: controller: http://10.0.0.9 is without TLS and takes precedence",
        ),
        (
            'controller = ["https://10.0.0.8", "https://10.0.0.9"]',
            [URL],
            TOKEN,
            "FILE:1: controller: https://10.0.0.8 https://10.0.0.9 takes precedence and is",
        ),
    ],
)
def test_what_cannot_work_is_refused_and_changes_nothing(
    tmp_path: Path, text: str, arguments: list[str], typed: str, error: str
) -> None:
    file, state = tmp_path / "agent.toml", tmp_path / "state"
    file.write_text(text)
    options = ["--no-start", "--config", str(file), "--state-dir", str(state)]
    done = CliRunner().invoke(app, ["join", *arguments, *options], input=typed)
    assert done.exit_code == 1
    assert done.stderr.replace(str(file), "FILE").startswith(f"overlayd: {error}")
    assert len(done.stderr.splitlines()) == 1
    assert "b" * 40 not in done.output
    assert file.read_text() == text
    assert not (state / "credential.json").exists()
