"""Of too many problems, those are reported that leave no network without one of its own."""

from overlayd.wire.problem_limit import PROBLEMS_MAX, foremost

Numbered = tuple[str | None, int]


def network(problem: Numbered) -> str | None:
    return problem[0]


def test_few_problems_are_told_as_they_are() -> None:
    few: list[Numbered] = [("blue", 1), (None, 2), ("blue", 3), ("red", 4)]
    assert foremost(few, network) == few
    assert foremost([], network) == []


def test_a_network_is_not_hidden_by_the_problems_of_another() -> None:
    many: list[Numbered] = [*(("blue", number) for number in range(500)), ("red", 500), ("red", 501), (None, 502)]
    kept = foremost(iter(many), network)
    assert len(kept) == PROBLEMS_MAX
    assert kept == sorted(kept, key=lambda problem: problem[1])
    assert kept[-2:] == [("red", 500), (None, 502)]
    assert kept[:-2] == many[: PROBLEMS_MAX - 2]


def test_there_may_be_more_networks_than_room() -> None:
    many: list[Numbered] = [(f"n{number}", number) for number in range(500)]
    assert foremost(many, network) == many[:PROBLEMS_MAX]
