"""A running controller does what its OpenAPI document says, whatever it is asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from overlayd.wire.credentials import CONTROLLER_NAME
from tests.support.controllers.secure import SecureController

EXAMPLES = 25
"""For each operation and each way to ask."""

_STREAMS = "^/v1/(feed|watch)$"
"""Without end: nothing waits for a whole answer of theirs."""

_CONFIGURATION = """
[checks.positive_data_acceptance]
# Whether a name is taken, a range is free of host bits or a revision is the last one, no schema can say.
expected-statuses = ["2xx", "304", "401", "403", "404", "409", "410", "412", "422"]

[checks.negative_data_rejection]
# What is wrong with a body that is too large is not looked at.
expected-statuses = ["400", "401", "404", "405", "409", "413", "422"]
"""


@pytest.mark.timeout(300)
def test_the_api_is_as_its_document_says(tmp_path: Path) -> None:
    controller = SecureController(tmp_path, (), CONTROLLER_NAME)
    try:
        api = controller.client(controller.admin)
        api.post("/v1/networks", json={"name": "blue", "pools": [{"range": "10.32.0.0/16"}]}).raise_for_status()
        host = {"name": "rack1-07", "address": "192.0.2.7", "instance": "i"}
        api.put("/v1/hosts/h-7f3a", json=host).raise_for_status()
        (tmp_path / "schemathesis.toml").write_text(_CONFIGURATION)
        command = [
            *(str(Path(sys.executable).with_name("st")), "run", f"{controller.url}/openapi.json"),
            *("--tls-verify", "false", "--header", f"Authorization: Bearer {controller.admin}"),
            *("--exclude-path-regex", _STREAMS, "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic", "--no-color"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
        assert "Tested: " in done.stdout
        assert api.get("/readyz").is_success
    finally:
        controller.close()
