"""mutmut with a faster way to test one mutant: a program, run in the directory of the copied tree.

mutmut starts pytest for each mutant, which takes a hundred times as long as the tests. Here pytest collects the tests
once, and a fork of that process runs those of one mutant.
"""

import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path
from time import process_time

import mutmut.__main__ as program
import pytest
from mutmut.configuration import config
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd
from mutmut.workers.isolation import ForkServerRunner, run_in_fork

MEMORY_MAX = 2 << 30
"""Bytes of address space of the tests of one mutant: a loop that a mutant makes endless may allocate in each round."""

UNUSED = ("-p", "no:unraisableexception")
"""Files that mutmut opens in the forking process, and leaves to the garbage collector, would fail the tests."""


class Reached(set[str]):
    """The functions that a test reaches, also in forks of its process: what each of them adds is in one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.clear()

    def add(self, name: str) -> None:
        if name not in self:
            super().add(name)
            with self._path.open("a") as file:
                file.write(f"{name}\n")

    def __iter__(self) -> Iterator[str]:
        return iter(set(self._path.read_text().splitlines()))

    def clear(self) -> None:
        super().clear()
        self._path.write_text("")


class CollectedTests(PytestRunner):
    """The tests of a pytest session that has collected them."""

    def __init__(self, session: pytest.Session | None = None) -> None:
        super().__init__()
        self._items = {} if session is None else {item.nodeid.removeprefix("mutants/"): item for item in session.items}

    def run_stats(self, *, tests: Iterable[str]) -> int:
        """Run tests, and record how long each takes and which functions it reaches."""
        state()._stats = Reached(Path("reached.txt").resolve())  # noqa: SLF001 - it has no other name
        return int(super().run_stats(tests=tests))

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        """Return 0 when these tests pass, 1 at the first that fails. Without a session, run pytest."""
        if not self._items:
            return int(super().run_tests(mutant_name=mutant_name, tests=tests))
        chosen = [self._items[name] for name in tests]
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return 0


class FirstFailure:
    """Ends the process at the first failure. Its report would take longer than the test, and nobody reads it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo and not call.excinfo.errisinstance((pytest.skip.Exception, pytest.xfail.Exception)):
            os._exit(1 if item.get_closest_marker("xfail") is None else 0)


class Loop:
    """Serves mutants in the place where pytest would run the tests that it has collected."""

    def __init__(self, runner: "SessionRunner", work: int, result: int) -> None:
        self._runner, self._work, self._result = runner, work, result

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        terminal = session.config.pluginmanager.getplugin("terminalreporter")
        session.config.pluginmanager.unregister(terminal)
        # What the first test imports, no fork needs to import.
        session.items[0].ihook.pytest_runtest_protocol(item=session.items[0], nextitem=None)
        session.config.pluginmanager.register(FirstFailure())
        os.chdir("..")  # where mutmut keeps its files
        self._runner.serve(session, self._work, self._result)
        return True


class SessionRunner(ForkServerRunner):
    """Forks a process for each mutant from one that has collected the tests."""

    def _forkserver_main(self, work_fd: int, result_fd: int) -> None:
        arguments = ["--rootdir=.", "-q", "--capture=no", "--assert=plain", *UNUSED, *config().pytest_add_cli_args]
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lasts
        with change_cwd("mutants"):
            pytest.main(
                [*arguments, *config().pytest_add_cli_args_test_selection], plugins=[Loop(self, work_fd, result_fd)]
            )

    def run_clean_tests(self, tests: Iterable[str]) -> int:  # noqa: ARG002 - that of the base class
        """Return 0: the process that forks runs the unchanged tests first."""
        return 0

    def run_forced_fail(self) -> int:
        """Return 1: tests that fail are shown by mutants that are killed."""
        return 1

    def serve(self, session: pytest.Session, work_fd: int, result_fd: int) -> None:
        """Test mutants until there are no more."""

        def tests() -> CollectedTests:
            return InFork(session)

        self.test_runner_class = tests
        unchanged = run_in_fork(lambda: tests().run_tests(mutant_name=None, tests=state().duration_by_test))
        if unchanged:
            os._exit(unchanged)
        super()._forkserver_main(work_fd, result_fd)

    def submit(self, mutant_name: str, tests: list[str], cpu_time_limit: int, estimated_time: float) -> None:
        """Test a mutant, with the fastest tests first."""
        ordered = sorted(tests, key=lambda test: state().duration_by_test[test])
        super().submit(mutant_name, ordered, cpu_time_limit, estimated_time)


class InFork(CollectedTests):
    """The collected tests, in the process that tests one mutant."""

    def warm_up(self) -> None:
        """Do nothing: the tests are collected."""

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        """Run the tests of one mutant, with bounds on processor time and memory."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        names = list(tests)
        limit = ceil(process_time() + 5 + 5 * sum(state().duration_by_test[name] for name in names))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        with change_cwd("mutants"):
            return super().run_tests(mutant_name=mutant_name, tests=names)


def make_runner(max_workers: int = 1) -> SessionRunner:
    return SessionRunner(max_workers, CollectedTests, {})


if __name__ == "__main__":
    program.get_mutant_runner = make_runner
    program.cli()
