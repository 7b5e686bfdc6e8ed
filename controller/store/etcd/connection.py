"""Calls to a cluster: on one of its endpoints at a time, each with a deadline, and on the next one when that fails.

gRPC's own keepalive takes 13 to 45 s to notice a node that is frozen, and its balancing sends calls there meanwhile:
so there is a channel for each endpoint, and we choose.
"""

import asyncio
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from controller.clock import Clock
from controller.store.etcd import rpc_pb2 as rpc
from controller.store.etcd.cluster import Certificates, EtcdCluster, EtcdLogin
from controller.store.etcd.timeline import Timeline
from controller.store.port import StoreUnavailable

R = TypeVar("R", bound=Message)

ATTEMPT_MAX = 2.0
"""Seconds that one call may take at one endpoint."""

CALL_MAX = 8.0
"""Seconds after which a call that no endpoint answers is given up. An election takes one to two."""

_PAUSE = 0.1
"""Seconds between rounds, once every endpoint has failed."""

_LOGIN_PAUSE_MIN = 0.5
_LOGIN_PAUSE_MAX = 8.0
"""Seconds between two attempts to log in that the cluster refuses."""

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # the way to etcd is never a proxy of the environment
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),  # etcd bounds what it sends by what it takes
    ("grpc.max_send_message_length", -1),
)

_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)
"""Errors that another endpoint, or the same one a little later, may not return."""


@dataclass(frozen=True, slots=True)
class Method(Generic[R]):
    """A method of the API: its path, and what it answers."""

    path: str
    answer: type[R]


RANGE = Method("/etcdserverpb.KV/Range", rpc.RangeResponse)
TXN = Method("/etcdserverpb.KV/Txn", rpc.TxnResponse)
COMPACT = Method("/etcdserverpb.KV/Compact", rpc.CompactionResponse)
LEASE_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse)
LEASE_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse)
LEASE_KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
WATCH = Method("/etcdserverpb.Watch/Watch", rpc.WatchResponse)
_AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", rpc.AuthenticateResponse)


class CallFailed(Exception):
    """An endpoint gave no answer, or one that another endpoint may not give. The call may have been executed."""


class EtcdRefusal(Exception):
    """The cluster answered that it does not do this, and has not done it."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class EtcdEndpoint:
    """One endpoint of the cluster."""

    def __init__(self, target: str, certificates: Certificates | None) -> None:
        self.target = target
        if certificates is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, _credentials(certificates), options=_OPTIONS)

    async def close(self) -> None:
        await self._channel.close()

    async def call(self, method: Method[R], request: Message, metadata: tuple[tuple[str, str], ...]) -> R:
        """Make a call with one request and one answer; raises `CallFailed` or `EtcdRefusal`."""
        invoke = self._channel.unary_unary(method.path, _serialized, method.answer.FromString)
        try:
            answer: R = await invoke(request, timeout=ATTEMPT_MAX, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self.translated(error) from None
        return answer

    def stream(
        self, method: Method[R], metadata: tuple[tuple[str, str], ...], deadline: float | None = None
    ) -> "Stream[R]":
        """Open a stream of requests and answers, which lasts `deadline` seconds at most (default: for ever)."""
        invoke = self._channel.stream_stream(method.path, _serialized, method.answer.FromString)
        return Stream(self, method, invoke(timeout=deadline, metadata=metadata))

    def translated(self, error: grpc.aio.AioRpcError) -> CallFailed | EtcdRefusal:
        """Return the error that a failed call means."""
        detail = error.details() or error.code().name
        if error.code() in _PASSING:
            return CallFailed(f"{self.target}: {detail}")
        return EtcdRefusal(error.code(), f"{self.target}: {detail}")


class Stream(Generic[R]):
    """A stream of requests to one endpoint, and of its answers."""

    def __init__(self, endpoint: EtcdEndpoint, method: Method[R], call: grpc.aio.StreamStreamCall[Message, R]) -> None:
        self._endpoint = endpoint
        self._method = method
        self._call = call

    async def write(self, request: Message) -> None:
        """Send a request; raises `CallFailed` or `EtcdRefusal`, also when the endpoint does not take it in time."""
        try:
            async with asyncio.timeout(ATTEMPT_MAX):
                await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise self._endpoint.translated(error) from None
        except (TimeoutError, asyncio.InvalidStateError):
            raise CallFailed(f"{self._endpoint.target} takes no more requests") from None

    async def read(self) -> R:
        """Return the next answer; raises `CallFailed`, also at the end of the stream, or `EtcdRefusal`."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._endpoint.translated(error) from None
        if not isinstance(answer, self._method.answer):
            raise CallFailed(f"{self._endpoint.target} ended the stream")
        return answer

    def cancel(self) -> None:
        self._call.cancel()


class Connection:
    """The endpoints of one cluster, of which one is in use."""

    def __init__(self, cluster: EtcdCluster, clock: Clock) -> None:
        self._clock = clock
        self._login = cluster.login
        self._token: str | None = None
        self._logins = Logins(clock)
        self.timeline = Timeline()
        self._endpoints = [EtcdEndpoint(target, cluster.certificates) for target in cluster.endpoints]

    @property
    def endpoint(self) -> EtcdEndpoint:
        """The endpoint in use."""
        return self._endpoints[0]

    @property
    def size(self) -> int:
        """How many endpoints there are."""
        return len(self._endpoints)

    async def close(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.close()

    def leave(self, endpoint: EtcdEndpoint) -> None:
        """Use the next endpoint from now on, if this one is still in use."""
        if self._endpoints[0] is endpoint:
            self._endpoints.append(self._endpoints.pop(0))

    async def repeat(self, method: Method[R], request: Message) -> R:
        """Make a call that may be executed twice, at the first endpoint that answers.

        Raises `StoreUnavailable` when no endpoint answers in time, `Replaced` when an endpoint belongs to another
        cluster than before, `EtcdRefusal` when an endpoint refuses the call.
        """
        deadline = self._clock.now() + CALL_MAX
        failures: dict[str, str] = {}
        while True:
            for _ in self._endpoints:
                endpoint = self.endpoint
                try:
                    return await self.once(endpoint, method, request)
                except CallFailed as failed:
                    failures[endpoint.target] = str(failed)
                    self.leave(endpoint)
                if self._clock.now() >= deadline:
                    raise StoreUnavailable(f"no etcd endpoint answers: {'; '.join(failures.values())}")
            await self._clock.sleep(_PAUSE)

    async def once(self, endpoint: EtcdEndpoint, method: Method[R], request: Message) -> R:
        """Make a call at one endpoint, as the user; raises `CallFailed`, `EtcdRefusal` or `Replaced`."""
        self.timeline.check()
        known = self.timeline.revision
        answer = await self._answered(endpoint, method, request)
        self.timeline.take(endpoint.target, answer, known)
        return answer

    async def _answered(self, endpoint: EtcdEndpoint, method: Method[R], request: Message) -> R:
        try:
            return await endpoint.call(method, request, await self.metadata(endpoint))
        except EtcdRefusal as refused:
            # An unknown or outdated token is refused before anything is executed.
            if self._login is None or refused.code not in _BAD_TOKEN:
                raise
            self.forget_token()
            return await endpoint.call(method, request, await self.metadata(endpoint))

    async def metadata(self, endpoint: EtcdEndpoint) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call; raises as `once` does when a login is needed."""
        if self._login is None:
            return ()
        if self._token is None:
            self._token = await self._logins.log_in(endpoint, self._login)
        return (("token", self._token),)

    def forget_token(self) -> None:
        """Log in again before the next call."""
        self._token = None


_BAD_TOKEN = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT})
"""A token that the server does not know; or one of before the last change of users, which is an invalid argument."""


class Logins:
    """Logs in as a user, and asks ever more seldom while the cluster refuses: it hashes each password at some cost.

    A password that has changed in its file is tried at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refusal: tuple[str, grpc.StatusCode, str] | None = None
        self._pause = _LOGIN_PAUSE_MIN
        self._next = 0.0

    async def log_in(self, endpoint: EtcdEndpoint, login: EtcdLogin) -> str:
        """Return a token; raises `CallFailed`, `EtcdRefusal`, or `StoreUnavailable` when there is no password."""
        password = await _read_password(login)
        is_refused = self._refusal is not None and self._refusal[0] == password
        if self._refusal and is_refused and self._clock.now() < self._next:
            raise EtcdRefusal(*self._refusal[1:])
        request = rpc.AuthenticateRequest(name=login.user, password=password)
        try:
            answer = await endpoint.call(_AUTHENTICATE, request, ())
        except EtcdRefusal as refused:
            self._pause = min(2 * self._pause, _LOGIN_PAUSE_MAX) if is_refused else _LOGIN_PAUSE_MIN
            self._next = self._clock.now() + self._pause
            self._refusal = (password, refused.code, f"user {login.user} cannot log in: {refused}")
            raise EtcdRefusal(*self._refusal[1:]) from None
        self._refusal = None
        return answer.token


async def _read_password(login: EtcdLogin) -> str:
    try:
        return (await asyncio.to_thread(login.password_file.read_text)).strip()
    except OSError as error:
        raise StoreUnavailable(f"the password file {login.password_file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StoreUnavailable(f"the password file {login.password_file} is not text") from None


def _credentials(files: Certificates) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        files.ca.read_bytes() if files.ca else None,
        files.key.read_bytes() if files.key else None,
        files.certificate.read_bytes() if files.certificate else None,
    )


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
