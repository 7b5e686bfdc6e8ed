"""Which controller an agent uses."""

from collections import Counter

from overlayd.agent.controllers.client import Controllers
from overlayd.model.ids import HostId

URLS = ["http://c1", "http://c2", "http://c3"]


def test_whoever_finds_one_dead_moves_everybody_once() -> None:
    controllers = Controllers([f"{url}/" for url in URLS])
    controllers.leave("http://c1")
    controllers.leave("http://c1")
    assert controllers.order == ("http://c2", "http://c3", "http://c1")
    controllers.use("http://c1")
    assert controllers.order == ("http://c1", "http://c2", "http://c3")


def test_one_controller_is_kept() -> None:
    controllers = Controllers(URLS[:1])
    controllers.leave("http://c1")
    assert controllers.current == "http://c1"


def test_hosts_spread_over_the_controllers_and_each_begins_with_the_same_one() -> None:
    chosen = Counter(Controllers.for_host(URLS, HostId(f"host-{number}")).current for number in range(300))
    assert all(chosen[url] > 60 for url in URLS)
    again = [Controllers.for_host(URLS, HostId("host-1")).order for _ in range(2)]
    assert again[0] == again[1]
