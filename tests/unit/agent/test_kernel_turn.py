"""Turns at the kernel, as whoever watches over the agent sees them."""

from overlayd.agent.kernel_turn import KernelTurn
from tests.support.fake_kernel import FakeKernel


async def test_a_turn_that_somebody_keeps_is_not_free() -> None:
    turn = KernelTurn(FakeKernel())
    assert turn.is_free_within(-1)
    async with turn.taken():
        assert turn.is_free_within(60)
        assert not turn.is_free_within(-1)
    assert turn.is_free_within(-1)
    turn.close()
