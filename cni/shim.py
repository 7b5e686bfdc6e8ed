#!/usr/bin/python3 -ISE
"""The plugin that container runtimes execute, for CNI and for netavark: forwards one request and relays the answer.

It imports as little as possible, because the start of the interpreter takes most of its time. The protocol is described
in overlayd/wire/cni/requests.py.
"""

# The C modules behind `os`, `signal` and `socket`, whose own imports would double the time of a start.
import _signal  # type: ignore[import-not-found]
import _socket
import errno
import posix
import sys

VERSION = "0.2.0"
"""The version of overlayd."""

SOCKET = "/run/overlayd/cni.sock"
QUEUE = "/run/overlayd/del-queue"
NETAVARK_SOCKET = "/run/overlayd/netavark.sock"
NETAVARK_QUEUE = "/run/overlayd/teardown-queue"
USERS_SOCKET = "/var/lib/overlayd-users/netavark.sock"
"""For users who are not root. Their plugin has another /run: podman gives it a mount namespace for that."""
NETAVARK_API = "1.0.0"
"""The version of netavark's plugin API (netavark, plugin-API.md)."""

VARIABLES = (b"CNI_COMMAND", b"CNI_CONTAINERID", b"CNI_NETNS", b"CNI_IFNAME", b"CNI_ARGS", b"CNI_PATH")
SUPPORTED_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SEND_PATIENCE, ANSWER_PATIENCE = 15, 35
"""Seconds; a runtime gives up after 60."""
DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE = 3, 7
"""Seconds for a DEL, which is queued when they are over."""

STDIN_MAX = 1 << 22
"""Bytes. A GC that lists 10,000 containers needs half of it."""

DEPTH_MAX = 200
"""The deepest nesting of JSON in which the version is looked for."""

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
NO_BRACKETS = bytes(set(range(256)) - set(b"{[]}"))
"""A string of JSON, whose brackets nest nothing, and all bytes that are no brackets."""

IO_FAILURE = 5
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50


def main() -> int:
    """Execute one operation; return the exit status. Only netavark gives arguments."""
    if len(sys.argv) > 1:
        return serve_netavark(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")  # noqa: PLR2004 - the second one
    if not any(name in posix.environ for name in VARIABLES if name != b"CNI_PATH"):
        return tell_version()
    command = posix.environ.get(b"CNI_COMMAND", b"")
    if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    hold_standard_streams()
    try:
        stdin = read_stdin()
    except OSError as error:
        return fail(b"", IO_FAILURE, f"cannot read the network config on stdin: {error.strerror}")
    if len(stdin) > STDIN_MAX:
        return fail(b"", INVALID_CONFIG, f"the network config on stdin is longer than {STDIN_MAX} bytes")
    return answer_version(stdin) if command == b"VERSION" else forward(command, stdin)


def tell_version() -> int:
    """Print the version for people and for Nomad, which executes every plugin like this; return the exit status.

    The reference plugins print the same lines to the same stream. Nomad may itself have a CNI_PATH.
    """
    lines = f"CNI overlayd plugin v{VERSION}\nCNI protocol versions supported: {', '.join(SUPPORTED_VERSIONS)}\n"
    try:
        posix.write(2, lines.encode())
    except OSError:
        return 1
    return 0


def forward(command: bytes, stdin: bytes) -> int:
    """Send an operation to the agent and relay its answer; return the exit status."""
    variables = (b"%b=%b\0" % (name, posix.environ[name]) for name in VARIABLES if name in posix.environ)
    frame = b"".join(variables) + b"\0" + stdin
    try:
        if command == b"DEL":
            answer = exchange_del(SOCKET, frame)
        else:
            answer = exchange(SOCKET, frame, SEND_PATIENCE, ANSWER_PATIENCE)
    except (ConnectionRefusedError, FileNotFoundError):
        return agent_is_away(command, frame, stdin)
    except OSError as error:
        if command == b"DEL":
            return agent_is_away(command, frame, stdin)
        return fail(stdin, TRY_AGAIN_LATER, f"the overlayd agent did not answer on {SOCKET}: {error.strerror}")
    return 0 if write(answer[1:]) and answer[:1] == b"0" else 1


def serve_netavark(operation: str, namespace: str) -> int:
    """Execute one operation of netavark's plugin API; return the exit status."""
    if operation == "info":
        return 0 if write(f'{{"version": "{VERSION}", "api_version": "{NETAVARK_API}"}}\n'.encode()) else 1
    if operation not in {"create", "setup", "teardown"}:
        return refuse("the operation is not one of info, create, setup, teardown")
    hold_standard_streams()
    try:
        stdin = read_stdin()
        is_mapped = uid_map() != ["0", "0", "4294967295"]
    except OSError as error:
        return refuse(f"cannot read stdin and /proc/self/uid_map: {error.strerror}")
    if len(stdin) > STDIN_MAX:
        return refuse(f"stdin is longer than {STDIN_MAX} bytes")
    variables = (b"NETAVARK_COMMAND=" + operation.encode(), b"NETAVARK_NETNS=" + encoded(namespace))
    frame = b"\0".join((*variables, b"", stdin))
    return forward_user(operation, namespace, frame) if is_mapped else forward_netavark(operation, frame)


def forward_user(operation: str, namespace: str, frame: bytes) -> int:
    """Execute an operation for a user who is not root; return the exit status.

    The namespace goes with it by its descriptor: the agent cannot find it by its path. A teardown always succeeds, as
    podman never repeats it; without an agent, or when that fails, the agent frees the addresses when the namespace is
    gone.
    """
    if operation == "teardown":
        try:  # noqa: SIM105 - contextlib is an import
            exchange_del(USERS_SOCKET, frame)
        except OSError:
            pass  # as said above
        return 0
    handed = -1
    try:
        if operation == "setup":
            handed = posix.open(namespace, posix.O_RDONLY | posix.O_NONBLOCK)
    except OSError as error:
        return refuse(f"the namespace of the container cannot be opened: {error.strerror}")
    try:
        answer = exchange(USERS_SOCKET, frame, SEND_PATIENCE, ANSWER_PATIENCE, handed)
    except (ConnectionRefusedError, FileNotFoundError):
        return refuse(
            f"podman without root is not allowed on this host: nothing listens on {USERS_SOCKET};"
            " allow-user in /etc/overlayd/agent.toml names users and their networks"
        )
    except PermissionError:
        return refuse(
            "this user may use no network of this host;"
            " allow-user in /etc/overlayd/agent.toml names users and their networks"
        )
    except OSError as error:
        return refuse(f"the overlayd agent did not answer on {USERS_SOCKET}: {error.strerror}")
    return 0 if write(answer[1:]) and answer[:1] == b"0" else 1


def forward_netavark(operation: str, frame: bytes) -> int:
    """Send an operation of netavark to the agent and relay its answer; return the exit status."""
    try:
        if operation == "teardown":
            answer = exchange_del(NETAVARK_SOCKET, frame)
        else:
            answer = exchange(NETAVARK_SOCKET, frame, SEND_PATIENCE, ANSWER_PATIENCE)
    except OSError as error:
        if operation == "teardown":
            return queue_teardown(frame)
        if isinstance(error, (ConnectionRefusedError, FileNotFoundError)):
            return refuse(f"the overlayd agent is not running: nothing listens on {NETAVARK_SOCKET}")
        return refuse(f"the overlayd agent did not answer on {NETAVARK_SOCKET}: {error.strerror}")
    return 0 if write(answer[1:]) and answer[:1] == b"0" else 1


def encoded(argument: str) -> bytes:
    """Return the bytes of an argument, as os.fsencode() does."""
    return argument.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def uid_map() -> list[str]:
    """Return the user namespace's map, by words; raises OSError. That of the first namespace is one line."""
    descriptor = posix.open("/proc/self/uid_map", posix.O_RDONLY)
    try:
        return posix.read(descriptor, 4096).decode().split()
    finally:
        posix.close(descriptor)


def queue_teardown(frame: bytes) -> int:
    """Queue a teardown, which podman never repeats; return the exit status."""
    try:
        queue(NETAVARK_QUEUE, frame, "teardown")
    except OSError as error:
        return refuse(f"the overlayd agent does not answer, and {NETAVARK_QUEUE} cannot be written: {error.strerror}")
    return 0


def refuse(reason: str) -> int:
    """Print an error as netavark wants it; return the exit status."""
    write(f'{{"error": "overlayd: {reason}"}}\n'.encode())
    return 1


def hold_standard_streams() -> None:
    """Occupy closed standard streams. Otherwise the socket could get stdout's descriptor and receive the answer."""
    descriptor = 0
    while descriptor <= 2:  # noqa: PLR2004 - standard error
        descriptor = posix.open("/dev/null", posix.O_RDONLY)
    posix.close(descriptor)


def read_stdin() -> bytes:
    """Return stdin, up to some bytes more than STDIN_MAX, and nothing of a terminal. Raises OSError."""
    found = bytearray()
    while len(found) <= STDIN_MAX and not posix.isatty(0) and (chunk := posix.read(0, 65536)):
        found += chunk
    return bytes(found)


def write(answer: bytes) -> bool:
    """Write to stdout; return whether that succeeded."""
    left = memoryview(answer)
    try:
        while left:
            left = left[posix.write(1, left) :]
    except OSError:
        return False
    return True


def exchange_del(path: str, frame: bytes) -> bytes:
    """Send a DEL. When the agent ends before it answers, try once more: another one may have been started."""
    try:
        return exchange(path, frame, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE)
    except (ConnectionResetError, BrokenPipeError):
        return exchange(path, frame, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE)


def exchange(path: str, frame: bytes, send_patience: int, answer_patience: int, handed: int = -1) -> bytes:
    """Send the request and return the whole answer. The time limits are in seconds.

    `handed` is a descriptor that goes with the first bytes (unix(7), SCM_RIGHTS) unless it is negative. If the
    agent refuses the user, it answers and hangs up without reading the request: then the answer counts. Raises OSError
    when the agent does not run or is silent.
    """
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # Not settimeout(): it makes connect() non-blocking, which fails at once when the socket's queue is full.
        channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval(send_patience))
        channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, timeval(answer_patience))
        connect(channel, path)
        answer = bytearray()
        failure = send(channel, frame, handed)
        try:
            while chunk := channel.recv(65536):
                answer += chunk
        except ConnectionResetError as error:
            failure = failure or error
        if failure and not (answer and path == USERS_SOCKET):
            raise failure
    finally:
        channel.close()
    if not answer:
        raise ConnectionResetError(errno.ECONNRESET, posix.strerror(errno.ECONNRESET))
    return bytes(answer)


def send(channel: _socket.socket, frame: bytes, handed: int) -> OSError | None:
    """Send a request; return why it was cut off, None when all was sent. Raises OSError for any other failure."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handed.to_bytes(4, sys.byteorder))] if handed >= 0 else []
    try:
        sent = channel.sendmsg([frame], rights)
        if sent < len(frame):  # sendall() of nothing calls send(2) too, which fails if the agent has hung up
            channel.sendall(frame[sent:])
        channel.shutdown(_socket.SHUT_WR)
    except BrokenPipeError as error:
        return error
    return None


def connect(channel: _socket.socket, path: str) -> None:
    """Connect. If the process is stopped and continued in here (signal(7)), Python returns before it is connected."""
    while True:
        channel.connect(path)
        try:
            channel.getpeername()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        else:
            return


def timeval(seconds: int) -> bytes:
    """Return a struct timeval: two longs on every 64-bit architecture of Linux."""
    return seconds.to_bytes(8, sys.byteorder) + bytes(8)


def agent_is_away(command: bytes, frame: bytes, stdin: bytes) -> int:
    """Queue a DEL, which must always succeed; answer everything else with an error for now."""
    if command != b"DEL":
        code = NOT_AVAILABLE if command == b"STATUS" else TRY_AGAIN_LATER
        return fail(stdin, code, f"the overlayd agent is not running: nothing listens on {SOCKET}")
    try:
        queue(QUEUE, frame, "del")
    except OSError as error:
        message = f"the overlayd agent does not answer, and {QUEUE} cannot be written: {error.strerror}"
        return fail(stdin, IO_FAILURE, message)
    return 0


def queue(directory: str, frame: bytes, suffix: str) -> None:
    """Store a request for the next agent. The file gets its final name when it is complete."""
    import time  # noqa: PLC0415 - not needed while the agent runs

    for each in (directory.rpartition("/")[0], directory):
        try:  # noqa: SIM105 - contextlib is an import
            posix.mkdir(each, 0o700)
        except OSError:
            pass  # opening the file fails too, with the reason
    path = f"{directory}/{time.time_ns()}-{posix.getpid()}"
    descriptor = posix.open(f"{path}.new", posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - pathlib doubles the start
            file.write(frame)
        posix.rename(f"{path}.new", f"{path}.{suffix}")
    except OSError:
        posix.unlink(f"{path}.new")
        raise


def answer_version(stdin: bytes) -> int:
    """Answer VERSION without the agent (CNI SPEC, section "VERSION")."""
    import json  # noqa: PLC0415 - as above

    version = version_of(stdin)
    # SPEC 0.1.0 has no VERSION operation, so here it means that the config has no supported version.
    version = version if version in SUPPORTED_VERSIONS[1:] else SUPPORTED_VERSIONS[-1]
    answer = json.dumps({"cniVersion": version, "supportedVersions": SUPPORTED_VERSIONS}) + "\n"
    return 0 if write(answer.encode()) else 1


def fail(stdin: bytes, code: int, message: str) -> int:
    """Print a CNI error object; return the exit status."""
    import json  # noqa: PLC0415 - as above

    write((json.dumps({"cniVersion": version_of(stdin), "code": code, "msg": message}) + "\n").encode())
    return 1


def version_of(stdin: bytes) -> str:
    """Return the version of the config if it is supported, else that of a config without a version."""
    import json  # noqa: PLC0415 - as above
    import re  # noqa: PLC0415 - as above; json has imported it

    depth = 0
    for bracket in re.sub(STRING, b"", stdin).translate(None, NO_BRACKETS):
        depth += 1 if bracket in b"{[" else -1
        if depth > DEPTH_MAX:
            return SUPPORTED_VERSIONS[0]
    try:
        config = json.loads(stdin.decode(), parse_int=float)  # int() refuses very long numbers
    except ValueError:
        return SUPPORTED_VERSIONS[0]
    version = config.get("cniVersion") if isinstance(config, dict) else None
    return version if version in SUPPORTED_VERSIONS else SUPPORTED_VERSIONS[0]


if __name__ == "__main__":
    posix._exit(main())  # noqa: SLF001 - to take the interpreter apart takes a millisecond; nothing is left to be flushed
