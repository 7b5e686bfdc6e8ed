"""The interpreted launcher in forks of the test process, where mutation tests can change its functions."""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from cni import install, shim
from overlayd.wire.cni import requests as cni
from tests.unit.cni import test_launchers as one
from tests.unit.cni import test_launchers_agree as both
from tests.unit.cni import test_netavark_launchers as netavark
from tests.unit.cni.test_launchers import CONFIG, ENVIRONMENT, SHIM, Machine, launchers
from tests.unit.cni.test_launchers_agree import Pair

__all__ = ["launchers"]  # the fixture

pytestmark = pytest.mark.usefixtures("root")

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000  # linux/sched.h, linux/mount.h

LIBC = ctypes.CDLL(None, use_errno=True)


class ForkedMachine(Machine):
    """A machine whose launcher is a fork of this process, which needs no start of an interpreter."""

    def execute(
        self, stdin: bytes = CONFIG, environment: Mapping[str, str | bytes] = ENVIRONMENT, *wrapper: str, **changes: str
    ) -> subprocess.CompletedProcess[bytes]:
        program, *arguments = wrapper or [str(self.launcher)]
        assert program == str(self.launcher), "a fork cannot become another program"
        with ExitStack() as files:
            given, stdout, stderr = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin)
            given.seek(0)
            child = os.fork()
            if not child:
                try:
                    self._enter({**environment, **changes}, given.fileno(), stdout.fileno(), stderr.fileno())
                    sys.argv = [program, *arguments]
                    os._exit(shim.main())
                except BaseException as error:  # noqa: BLE001 - it must never run on as a second pytest
                    os.write(2, repr(error).encode())
                    os._exit(70)
            _, status = os.waitpid(child, 0)
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess("shim", os.waitstatus_to_exitcode(status), stdout.read(), stderr.read())

    def _enter(self, environment: Mapping[str, str | bytes], *streams: int) -> None:
        call(LIBC.unshare(CLONE_NEWNS))
        call(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
        call(LIBC.mount(os.fsencode(self.run), b"/run", None, MS_BIND, None))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.environb.clear()
        os.environb.update({os.fsencode(name): os.fsencode(value) for name, value in environment.items()})


def call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return ForkedMachine(tmp_path, SHIM)


@pytest.fixture
def pair(tmp_path: Path, launchers: dict[str, Path]) -> Pair:
    found = Pair(tmp_path, launchers[install.COMPILERS[0]])
    found.machines[1] = ForkedMachine.__new__(ForkedMachine)
    found.machines[1].run, found.machines[1].launcher = tmp_path / "interpreted", SHIM
    return found


test_the_agent_gets_the_variables_and_stdin = one.test_the_agent_gets_the_variables_and_stdin_and_its_answer_is_relayed
test_status_and_answer_are_relayed = one.test_status_and_answer_are_relayed
test_a_large_request_and_a_large_answer_are_whole = one.test_a_large_request_and_a_large_answer_are_whole
test_only_the_named_variables_are_forwarded = one.test_only_the_named_variables_are_forwarded
test_a_request_without_a_command = one.test_a_request_without_a_command_reaches_the_agent_as_such
test_a_variable_that_is_no_utf_8 = one.test_a_variable_that_is_no_utf_8_is_forwarded_as_it_came
test_an_agent_that_hangs_up = one.test_an_agent_that_hangs_up_means_try_again_later
test_a_delete_is_asked_for_once_more = one.test_a_delete_that_an_agent_hangs_up_on_is_asked_for_once_more
test_a_delete_that_agents_keep_hanging_up_on_is_queued = one.test_a_delete_that_agents_keep_hanging_up_on_is_queued
test_a_delete_on_a_connection_that_is_reset_is_queued = one.test_a_delete_on_a_connection_that_is_reset_is_queued
test_without_an_agent_only_a_delete_succeeds = one.test_without_an_agent_only_a_delete_succeeds
test_an_error_is_in_the_version_of_the_config = one.test_an_error_is_in_the_version_of_the_config_if_it_can_be_read
test_a_delete_without_an_agent_is_queued_whole = one.test_a_delete_without_an_agent_is_queued_whole
test_queued_deletes_are_for_root_only = one.test_queued_deletes_are_for_root_only
test_queued_deletes_sort_by_age = one.test_queued_deletes_sort_by_age
test_a_socket_that_nobody_listens_on_is_no_agent = one.test_a_socket_that_nobody_listens_on_is_no_agent
test_a_host_on_which_no_agent_ever_ran_takes_deletes = one.test_a_host_on_which_no_agent_ever_ran_takes_deletes
test_a_delete_that_cannot_be_queued_fails = one.test_a_delete_that_cannot_be_queued_fails
test_a_version_request_needs_no_agent = one.test_a_version_request_needs_no_agent_and_answers_as_it_does
test_the_version_is_read_as_the_agent_reads_it = one.test_the_version_is_read_as_the_agent_reads_it
test_without_an_agent = both.test_without_an_agent
test_what_is_no_socket_is_no_agent = both.test_what_is_no_socket_is_no_agent
test_an_answer_is_relayed = both.test_an_answer_is_relayed
test_both_say_the_same_when_the_agent_hangs_up = both.test_an_agent_that_hangs_up
test_stdin_has_a_limit = both.test_stdin_has_a_limit_and_what_is_longer_is_never_asked_for_again
test_an_empty_environment = both.test_an_empty_environment
test_without_a_request_it_tells_its_version = (
    one.test_without_a_request_it_tells_its_version_as_the_reference_plugins_do
)
test_netavark_is_told_both_versions = netavark.test_it_tells_its_version_and_that_of_the_api_without_an_agent
test_an_operation_of_netavark_is_forwarded = (
    netavark.test_an_operation_is_forwarded_with_its_namespace_and_the_answer_relayed
)
test_netavark_is_told_an_error_of_the_agent = netavark.test_an_error_of_the_agent_is_one
test_netavark_without_an_agent = netavark.test_without_an_agent_nothing_is_created_and_nothing_set_up
test_a_teardown_without_an_agent = netavark.test_a_teardown_without_an_agent_is_queued_whole_and_for_root_only
test_a_teardown_that_agents_hang_up_on = netavark.test_a_teardown_that_agents_hang_up_on_is_queued
test_a_teardown_that_cannot_be_queued = netavark.test_a_teardown_that_cannot_be_queued_fails
test_another_operation_of_netavark = netavark.test_another_operation_is_refused
test_a_document_without_an_end = netavark.test_a_document_without_an_end_is_refused


def test_the_version_is_that_of_the_config_up_to_a_depth(machine: Machine) -> None:
    for config in both.CONFIGS:
        done = machine.execute(config, {"CNI_COMMAND": "VERSION"})
        assert done.stdout == cni.render_version(cni.version_of(config)), config
