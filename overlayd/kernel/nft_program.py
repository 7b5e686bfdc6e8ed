"""Running the `nft` program in the network namespace of the calling thread."""

import errno
import subprocess

from overlayd.kernel.port import KernelError

_TIMEOUT = 30.0


def run(*arguments: str, stdin: str = "") -> str:
    """Run `nft`; return what it prints, or raise `KernelError` with its first words."""
    try:
        done = subprocess.run(
            ["nft", *arguments],  # noqa: S607 - the administrator's PATH decides
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except FileNotFoundError:
        raise KernelError(errno.ENOPKG, "there is no program nft (Debian package nftables)") from None
    except OSError as error:
        raise KernelError.of(error, "the program nft cannot be started") from error
    except subprocess.TimeoutExpired:
        raise KernelError(errno.ETIMEDOUT, f"nft took more than {_TIMEOUT:.0f} s") from None
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), f"ended with {done.returncode}")
        raise KernelError(errno.EINVAL, f"nft: {first}")
    return done.stdout
