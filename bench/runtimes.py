"""`docker run` and `podman run` until the container runs, in a network of ours and in one of the runtime's own bridge.

Each runtime has a host of its own, with the releases of Debian 13. What follows the answer is done before the next run.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.hosts.process_costs import until_quiet
from bench.reporting.report import Report
from tests.support.lab.lab import COMMANDS, Lab, LabHost, run
from tests.support.machines.rootfs import DOCKER, Rootfs
from tests.support.runtimes.docker import IMAGE, Docker
from tests.support.runtimes.images import PAUSE, root_filesystem
from tests.support.runtimes.podman import PLUGINS, Podman

RUNS = 30
OURS, OWN, DEFAULT = "blue", "own", "default"
NETWORK, NAME = "blue", "measured"

PODMAN = Rootfs("podman-bench", ("iproute2", "iptables", "netavark", "nftables", "podman", "runc"), release="trixie")
"""With nft, which netavark programs a bridge by unless its settings name something else."""

_TIMED = 'started=$EPOCHREALTIME; "$@" >&2; ended=$EPOCHREALTIME; echo "$started $ended"'
"""A script of bash that tells when a command began and when it had ended, in seconds."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What `run` and `rm` are for one runtime."""

    host: LabHost
    enter: Callable[[Sequence[str]], list[str]]
    run: Sequence[str]
    """Without the network."""

    container: Sequence[str]
    """What is to run, after all options."""

    remove: Sequence[str]
    networks: Mapping[str, str]
    """What each network is called there."""


async def measure(report: Report) -> None:
    runs = 2 if report.quick else RUNS
    with ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="overlay-bench-")))
        lab = ending.enter_context(Lab(directory, hosts=2, secure=True, executed=True))
        controller = lab.start_controller()
        agents = [host.start_agent() for host in lab.hosts]
        lab.overlayctl("network", "create", NETWORK, "--range", "10.32.0.0/16")
        daemons = [controller.pid.number, *(agent.pid.number for agent in agents)]
        root = root_filesystem(directory / "root")
        docker = ending.enter_context(Docker(lab.hosts[0], DOCKER[26], root))
        ours = ["--driver", "overlayd", "--ipam-driver", "overlayd", "--ipam-opt", f"overlayd.network={NETWORK}"]
        docker.docker("network", "create", *ours, OURS)
        docker.docker("network", "create", OWN)
        found = _alternate(report, "docker run", _docker(docker), runs, daemons)
        report.compare("docker run", "ms", found[OURS], "a bridge network of Docker", found[OWN], more=False)
        against = "docker run/against Docker's default bridge"
        report.compare(against, "ms", found[OURS], "the default bridge", found[DEFAULT], more=False)
        lab.hosts[1].run(str(COMMANDS / "overlayd"), "install-netavark", "--plugin-dir", PLUGINS)
        podman = ending.enter_context(Podman(lab.hosts[1], root, PODMAN))
        podman.podman("network", "create", "--driver", "overlayd", "--opt", f"network={NETWORK}", OURS)
        podman.podman("network", "create", "--disable-dns", OWN)
        found = _alternate(report, "podman run", _podman(podman, root), runs, daemons)
        report.compare("podman run", "ms", found[OURS], "a bridge network of podman", found[OWN], more=False)


def _docker(docker: Docker) -> Runtime:
    return Runtime(
        docker.host,
        docker.enter,
        ["docker", "run", "--detach", "--name", NAME, "--network"],
        [IMAGE],
        ["docker", "rm", "--force", NAME],
        {OURS: OURS, OWN: OWN, DEFAULT: "bridge"},
    )


def _podman(podman: Podman, root: Path) -> Runtime:
    command = podman.command
    group = ["--cgroup-parent", f"/{podman.group.name}"]
    return Runtime(
        podman.host,
        podman.enter,
        [*command, "run", "--detach", "--name", NAME, *group, "--network"],
        ["--rootfs", f"{root}:O", PAUSE],
        [*command, "rm", "--force", "--time", "0", NAME],
        {OURS: OURS, OWN: OWN},
    )


def _alternate(
    report: Report, what: str, runtime: Runtime, runs: int, daemons: Sequence[int]
) -> Mapping[str, list[float]]:
    """Return the milliseconds of each run by network; each round begins with another one, and one goes before."""
    taken = defaultdict[str, list[float]](list)
    networks = list(runtime.networks)
    step = report.step(what, runs)
    for number in range(-1, runs):
        first = number % len(networks)
        for network in (*networks[first:], *networks[:first]):
            spent = _run(runtime, runtime.networks[network])
            until_quiet(daemons)
            run(runtime.enter(runtime.remove))
            until_quiet(daemons)
            if number >= 0:
                taken[network].append(spent)
        report.progress.advance(step, number >= 0)
    return taken


def _run(runtime: Runtime, network: str) -> float:
    command = [*runtime.run, network, *runtime.container]
    began, ended = run(runtime.enter(["bash", "-euc", _TIMED, "bash", *command])).split()
    return 1e3 * (float(ended) - float(began))
