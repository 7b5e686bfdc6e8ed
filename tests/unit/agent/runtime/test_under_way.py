"""Keys with work under way: counted, and forgotten at its end."""

from contextlib import ExitStack

from overlayd.agent.runtime.under_way import UnderWay


def test_a_key_is_forgotten_with_the_last_of_its_work() -> None:
    under_way = UnderWay[str]()
    with under_way.counted("web"):
        with under_way.counted("web"), under_way.counted("db"):
            assert set(under_way) == {"web", "db"}
        assert "web" in under_way
        assert "db" not in under_way
    assert len(under_way) == 0


def test_work_that_fails_is_forgotten_too() -> None:
    under_way = UnderWay[str]()
    with ExitStack() as work:
        work.enter_context(under_way.counted("web"))
        assert "web" in under_way
    assert "web" not in under_way
