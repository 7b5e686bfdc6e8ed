"""How often a cluster that refuses a login is asked again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
import pytest

from controller.store.etcd import rpc_pb2 as rpc
from controller.store.etcd.cluster import EtcdLogin
from controller.store.etcd.connection import EtcdEndpoint, EtcdRefusal, Logins
from controller.store.port import StoreUnavailable
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


@dataclass
class Guard:
    """An endpoint that lets in whoever knows the word."""

    word: str = "sesame"
    asked: list[str] = field(default_factory=list)

    async def call(self, _method: object, request: rpc.AuthenticateRequest, _metadata: object) -> object:
        self.asked.append(request.password)
        if request.password != self.word:
            raise EtcdRefusal(grpc.StatusCode.INVALID_ARGUMENT, "authentication failed")
        return rpc.AuthenticateResponse(token="ticket")


async def attempts(logins: Logins, guard: Guard, login: EtcdLogin, clock: VirtualClock, seconds: int) -> int:
    """Return how often the guard is asked by someone who tries ten times a second."""
    before = len(guard.asked)
    for _ in range(10 * seconds):
        with pytest.raises(EtcdRefusal, match="user root cannot log in"):
            await logins.log_in(cast("EtcdEndpoint", guard), login)
        clock.pass_time(0.1)
    return len(guard.asked) - before


async def test_a_refused_password_is_tried_ever_more_seldom_and_another_one_at_once(tmp_path: Path) -> None:
    clock, guard, password = VirtualClock(), Guard(), tmp_path / "password"
    logins, login = Logins(clock), EtcdLogin("root", password)
    password.write_text("wrong")
    assert await attempts(logins, guard, login, clock, 2) <= 3
    assert await attempts(logins, guard, login, clock, 30) <= 6
    password.write_text("sesame\n")
    assert await logins.log_in(cast("EtcdEndpoint", guard), login) == "ticket"
    guard.word = "changed"
    assert await attempts(logins, guard, login, clock, 1) <= 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
async def test_a_password_that_cannot_be_read_is_no_password(tmp_path: Path, content: bytes | None) -> None:
    password = tmp_path / "password"
    if content is not None:
        password.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="password"):
        await Logins(VirtualClock()).log_in(cast("EtcdEndpoint", Guard()), EtcdLogin("root", password))
