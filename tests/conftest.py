"""What all tests share: root for those that need it, the order, the asynchronous backend, golden files, hypothesis."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests import longest_first

# A test that takes longer on a busy machine is no failure: sizes are bounded, wall time is not.
_PATIENT = hypothesis.settings(deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# The same tree gets the same verdict twice. `--hypothesis-profile=hunt` looks further, at other examples each time.
hypothesis.settings.register_profile("overlayd", _PATIENT, derandomize=True)
hypothesis.settings.register_profile("hunt", _PATIENT, max_examples=2000)
hypothesis.settings.load_profile("overlayd")


# Tests send these to programs, which ignore what their parent ignores: under nohup, or in the background of a shell.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing with them"
    )
    parser.addoption(
        "--machines", choices=["nspawn", "qemu"], default="nspawn", help="what boots the machines of tests/machines"
    )
    parser.addoption("--record-times", action="store_true", help="write how long each file took to file_seconds.txt")


def pytest_configure(config: pytest.Config) -> None:
    # Workers of xdist send their reports to the process that started them.
    if config.getoption("--record-times") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(longest_first.Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first.sort(items)


@pytest.fixture(scope="session")
def root() -> None:
    """Root, for namespaces and mounts. Without it a test fails: a skipped one would look like one that passed."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root, for network namespaces and mounts: run `make test` as root", pytrace=False)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> None:
    """Run all asynchronous tests in one loop, as a controller does: while a fixture of it lasts, it is kept.

    gRPC delivers the end of a call that was cancelled after its channel is closed, and fails where the loop is no more.
    """
    assert anyio_backend == "asyncio"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of this name in `golden/` beside the test; `--update-golden` writes it instead."""
    directory = Path(request.path).parent / "golden"

    def check(name: str, text: str) -> None:
        path = directory / name
        if request.config.getoption("--update-golden"):
            directory.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run pytest with --update-golden, and read what it wrote"
        assert text == path.read_text()

    return check
