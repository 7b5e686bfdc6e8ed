#!/usr/bin/python3 -ISE
"""The CNI plugin that container runtimes execute: forwards one request to the agent and relays its answer.

Standard library only, and as little of it as possible: what an execution costs is the start of the interpreter.
The protocol is described in overlayd/wire/cni.py.
"""

import _socket  # what `socket` is made of, which imports enough to double the start
import os
import sys

SOCKET = "/run/overlayd/cni.sock"
QUEUE = "/run/overlayd/del-queue"
VARIABLES = (b"CNI_COMMAND", b"CNI_CONTAINERID", b"CNI_NETNS", b"CNI_IFNAME", b"CNI_ARGS", b"CNI_PATH")
SUPPORTED_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SEND_PATIENCE, ANSWER_PATIENCE = 15, 35
"""Seconds; a runtime gives up after 60."""
DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE = 3, 7
"""Seconds for a DEL, which is queued then."""

IO_FAILURE = 5
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50


def main() -> int:
    """Execute one operation; return the exit status."""
    command = os.environ.get("CNI_COMMAND", "")
    stdin = b"" if sys.stdin is None or sys.stdin.buffer.isatty() else sys.stdin.buffer.read()
    if command == "VERSION":
        return answer_version(stdin)
    variables = (b"%b=%b\0" % (name, os.environb[name]) for name in VARIABLES if name in os.environb)
    frame = b"".join(variables) + b"\0" + stdin
    try:
        answer = exchange_del(frame) if command == "DEL" else exchange(frame, SEND_PATIENCE, ANSWER_PATIENCE)
    except (ConnectionRefusedError, FileNotFoundError):
        return agent_is_away(command, frame, stdin)
    except OSError as error:
        if command == "DEL":
            return agent_is_away(command, frame, stdin)
        return fail(stdin, TRY_AGAIN_LATER, f"the overlayd agent did not answer on {SOCKET}: {error}")
    sys.stdout.buffer.write(answer[1:])
    return 0 if answer[:1] == b"0" else 1


def exchange_del(frame: bytes) -> bytes:
    """Have a DEL executed. An agent that ends meanwhile may have another one behind it: ask once more."""
    try:
        return exchange(frame, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE)
    except (ConnectionResetError, BrokenPipeError):
        return exchange(frame, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE)


def exchange(frame: bytes, send_patience: int, answer_patience: int) -> bytes:
    """Send the request and return the whole answer, with so many seconds for each.

    Raises OSError when the agent is away or silent.
    """
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # Not settimeout(): a connect() that does not block fails at once where many others wait to be accepted.
        channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval(send_patience))
        channel.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, timeval(answer_patience))
        channel.connect(SOCKET)
        channel.sendall(frame)
        channel.shutdown(_socket.SHUT_WR)
        answer = bytearray()
        while chunk := channel.recv(65536):
            answer += chunk
    finally:
        channel.close()
    if not answer:
        raise ConnectionResetError("it closed the connection")
    return bytes(answer)


def timeval(seconds: int) -> bytes:
    """Return a struct timeval; two native longs on every machine that Linux calls 64-bit."""
    return seconds.to_bytes(8, sys.byteorder) + bytes(8)


def agent_is_away(command: str, frame: bytes, stdin: bytes) -> int:
    """Queue a DEL, which must succeed at any time; refuse everything else for now."""
    if command != "DEL":
        code = NOT_AVAILABLE if command == "STATUS" else TRY_AGAIN_LATER
        return fail(stdin, code, f"the overlayd agent is not running: nothing listens on {SOCKET}")
    try:
        queue(frame)
    except OSError as error:
        return fail(stdin, IO_FAILURE, f"the overlayd agent does not answer, and {QUEUE} cannot be written: {error}")
    return 0


def queue(frame: bytes) -> None:
    """Leave a request to be executed later. The file gets its name when it is whole."""
    import time  # noqa: PLC0415 - costs a start in which the agent runs nothing

    os.makedirs(QUEUE, mode=0o700, exist_ok=True)  # noqa: PTH103 - pathlib doubles the start
    path = f"{QUEUE}/{time.time_ns()}-{os.getpid()}"
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - as above
            file.write(frame)
        os.rename(f"{path}.new", f"{path}.del")  # noqa: PTH104 - as above
    except OSError:
        os.unlink(f"{path}.new")  # noqa: PTH108 - as above
        raise


def answer_version(stdin: bytes) -> int:
    """Answer VERSION without the agent (CNI SPEC, section "VERSION")."""
    import json  # noqa: PLC0415 - as above

    asked = version_of(stdin)
    # 0.1.0 has no such operation: it stands for no version at all.
    version = asked if asked in SUPPORTED_VERSIONS[1:] else SUPPORTED_VERSIONS[-1]
    sys.stdout.write(json.dumps({"cniVersion": version, "supportedVersions": SUPPORTED_VERSIONS}) + "\n")
    return 0


def fail(stdin: bytes, code: int, message: str) -> int:
    """Print a CNI error object; return the exit status."""
    import json  # noqa: PLC0415 - as above

    sys.stdout.write(json.dumps({"cniVersion": version_of(stdin), "code": code, "msg": message}) + "\n")
    return 1


def version_of(stdin: bytes) -> str:
    """Return the version of the config on stdin, if it can be read."""
    import json  # noqa: PLC0415 - as above

    try:
        config = json.loads(stdin)
    except (ValueError, RecursionError):
        return "0.1.0"
    version = config.get("cniVersion") if isinstance(config, dict) else None
    return version if isinstance(version, str) else "0.1.0"


if __name__ == "__main__":
    sys.exit(main())
