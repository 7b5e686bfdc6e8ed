"""The transport against scripted answers of a kernel: interrupted dumps, errors in batches, lost answers."""

import errno
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import pytest

from overlayd.kernel.netlink.framing import HEADER, NLM_F_DUMP_INTR, MessageRun
from overlayd.kernel.netlink.transport import Netlink
from overlayd.kernel.port import KernelError
from tests.support.kernel.failing_calls import Fault, under

DONE, ERROR, ENTRY = 3, 2, 24
REQUEST = HEADER.pack(HEADER.size, 26, 0x301, 0, 0)

Answer = tuple[int, int, int | None, bytes]
"""Type, flags, position of the message that it answers (None: the last one), payload."""


class ScriptedKernel:
    """Answers each send with the next datagrams of a script."""

    def __init__(self, *script: Sequence[Sequence[Answer]]) -> None:
        self._script = deque(script)
        self._queued: deque[bytes] = deque()
        self.sends = 0

    def send(self, data: bytes | bytearray) -> int:
        self.sends += 1
        sequences = list(_sequences(bytes(data)))
        for datagram in self._script.popleft():
            self._queued.append(b"".join(_message(answer, sequences) for answer in datagram))
        return len(data)

    def recv_into(self, buffer: bytearray, _nbytes: int, _flags: int) -> int:
        if not self._queued:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        datagram = self._queued.popleft()
        buffer[: len(datagram)] = datagram
        return len(datagram)

    def close(self) -> None:
        pass


def _sequences(data: bytes) -> list[int]:
    found, offset = [], 0
    while offset < len(data):
        length, _, _, sequence, _ = HEADER.unpack_from(data, offset)
        found.append(sequence)
        offset += (length + 3) & ~3
    return found


def _message(answer: Answer, sequences: list[int]) -> bytes:
    kind, flags, position, payload = answer
    sequence = sequences[-1 if position is None else position]
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def refusal(code: int) -> bytes:
    return struct.pack("=i", -code) + REQUEST


END: Answer = (DONE, 0, None, struct.pack("=i", 0))
CUT: Answer = (DONE, NLM_F_DUMP_INTR, None, struct.pack("=i", 0))


def entry(payload: bytes, flags: int = 0) -> Answer:
    return (ENTRY, flags, None, payload)


@pytest.mark.parametrize(
    "interrupted",
    [
        [[entry(b"one."), CUT]],
        [[entry(b"one.", NLM_F_DUMP_INTR)], [entry(b"two."), END]],
        [[entry(b"one.")], [entry(b"two.", NLM_F_DUMP_INTR), END]],
    ],
    ids=["on its end", "on the first message", "on a later message"],
)
def test_an_interrupted_dump_is_read_again_as_a_whole(interrupted: list[list[Answer]]) -> None:
    kernel = ScriptedKernel(interrupted, [[entry(b"one."), entry(b"two."), entry(b"3...")], [END]])
    assert Netlink(kernel).dump(REQUEST) == [b"one.", b"two.", b"3..."]


def test_a_dump_that_stays_interrupted_is_an_error_and_no_table() -> None:
    kernel = ScriptedKernel(*[[[entry(b"one."), CUT]]] * 100)
    with pytest.raises(KernelError) as refused:
        Netlink(kernel).dump(REQUEST)
    assert refused.value.errno == errno.EINTR
    assert kernel.sends < 100, "it gives up"


def test_a_dump_whose_answer_is_lost_is_an_error_and_no_table() -> None:
    with pytest.raises(KernelError) as refused:
        Netlink(ScriptedKernel([[entry(b"one.")]])).dump(REQUEST)
    assert refused.value.errno == errno.ENOBUFS


def test_a_dump_that_ends_with_an_error_is_an_error() -> None:
    with pytest.raises(KernelError) as refused:
        Netlink(ScriptedKernel([[entry(b"one."), (DONE, 0, None, struct.pack("=i", -errno.ENOMEM))]])).dump(REQUEST)
    assert refused.value.errno == errno.ENOMEM


def test_errors_belong_to_the_messages_that_failed() -> None:
    answers: list[list[Answer]] = [
        [(ERROR, 0, 1, refusal(errno.EEXIST)), (ERROR, 0, 3, refusal(errno.ENODEV))],
        [(ERROR, 0, None, refusal(0))],
    ]
    errors = Netlink(ScriptedKernel(answers)).batch([REQUEST] * 5)
    assert {position: error.errno for position, error in errors.items()} == {1: errno.EEXIST, 3: errno.ENODEV}


def test_a_batch_whose_answer_is_lost_counts_as_failed() -> None:
    errors = Netlink(ScriptedKernel([[(ERROR, 0, 0, refusal(errno.EEXIST))]])).batch([REQUEST] * 3)
    assert {position: error.errno for position, error in errors.items()} == {
        0: errno.EEXIST,
        1: errno.ENOBUFS,
        2: errno.ENOBUFS,
    }


def test_a_large_batch_goes_out_in_parts() -> None:
    done: list[list[Answer]] = [[(ERROR, 0, None, refusal(0))]]
    kernel = ScriptedKernel(done, done, done)
    assert Netlink(kernel).batch([REQUEST] * 7_000) == {}
    assert kernel.sends == 3


def test_a_stream_sends_each_chunk_while_the_next_one_is_made() -> None:
    making = threading.Event()

    class Kernel(ScriptedKernel):
        def send(self, data: bytes | bytearray) -> int:
            assert making.wait(timeout=10), "nobody makes the next chunk meanwhile"
            return super().send(data)

    def chunks() -> Iterator[list[MessageRun]]:
        yield [MessageRun(REQUEST * 2, 2), MessageRun(REQUEST, 1)]
        making.set()
        yield [MessageRun(REQUEST * 2, 2)]

    done: Answer = (ERROR, 0, None, refusal(0))
    kernel = Kernel([[(ERROR, 0, 1, refusal(errno.EEXIST))], [done]], [[(ERROR, 0, 0, refusal(errno.ENODEV))], [done]])
    errors = Netlink(kernel).stream(chunks())
    assert {position: error.errno for position, error in errors.items()} == {1: errno.EEXIST, 3: errno.ENODEV}


def test_a_stream_needs_no_second_thread() -> None:
    """As many DELs at once as make a stream must not end the agent where no thread can be started."""
    done: Answer = (ERROR, 0, None, refusal(0))
    kernel = ScriptedKernel(
        [[(ERROR, 0, 1, refusal(errno.EEXIST)), done]], [[(ERROR, 0, 0, refusal(errno.ENODEV)), done]]
    )
    chunks = [[MessageRun(REQUEST * 3, 3)], [MessageRun(REQUEST, 1)]]
    errors = under(Fault("clone3", errno.EAGAIN), lambda: Netlink(kernel).stream(chunks))
    assert {position: error.errno for position, error in errors.items()} == {1: errno.EEXIST, 3: errno.ENODEV}
    assert kernel.sends == len(chunks)


def test_each_message_of_a_run_has_a_number_of_its_own() -> None:
    sent: list[int] = []

    class Kernel(ScriptedKernel):
        def send(self, data: bytes | bytearray) -> int:
            sent.extend(_sequences(bytes(data)))
            return super().send(data)

    longer = HEADER.pack(HEADER.size + 4, 26, 0x301, 0, 0) + bytes(4)
    runs = [MessageRun(longer * 3, 3), MessageRun(REQUEST, 1), MessageRun(bytearray(REQUEST * 4), 4)]
    assert Netlink(Kernel([[(ERROR, 0, None, refusal(0))]])).stream([runs]) == {}
    assert sent == list(range(sent[0], sent[0] + 9)), "the barrier has the last one"
