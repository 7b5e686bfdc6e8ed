"""When hosts are probed: what is new at once, the rest at its time, at a cost that follows what is due."""

from dataclasses import dataclass

from overlayd.agent.probes.schedule import Schedule


def schedule_of(**values: int) -> Schedule[str, int]:
    made = Schedule[str, int]()
    made.keep(values, values.keys())
    return made


def test_what_is_new_is_due_at_once_and_in_order() -> None:
    schedule = schedule_of(a=1, b=1, c=1)
    assert schedule.take(0.0, 2) == ["a", "b"]
    assert schedule.take(0.0, 2) == ["c"]
    assert schedule.take(1e9, 2) == []


def test_what_is_put_back_is_due_at_its_time_and_those_that_wait_longest_come_first() -> None:
    schedule = schedule_of(a=1, b=1)
    schedule.take(0.0, 2)
    schedule.again("a", 1, 20.0)
    schedule.again("b", 1, 10.0)
    assert schedule.take(9.0, 2) == []
    assert schedule.take(30.0, 2) == ["b", "a"]


def test_another_value_is_due_at_once_and_the_same_one_is_not() -> None:
    schedule = schedule_of(a=1, b=1)
    for key in schedule.take(0.0, 2):
        schedule.again(key, 1, 100.0)
    schedule.keep({"a": 2, "b": 1}, {"a"})
    assert schedule.take(0.0, 2) == ["a"]
    assert schedule.take(100.0, 2) == ["b"]


def test_what_changed_while_it_was_probed_is_probed_again() -> None:
    schedule = schedule_of(a=1)
    schedule.take(0.0, 1)
    schedule.keep({"a": 2}, {"a"})
    schedule.again("a", 1, 100.0)
    assert schedule.take(0.0, 1) == ["a"]


def test_what_is_not_kept_is_not_due() -> None:
    schedule = schedule_of(a=1, b=1)
    schedule.keep({"b": 1}, {"a"})
    schedule.again("a", 1, 0.0)
    assert schedule.take(1.0, 2) == ["b"]


@dataclass(frozen=True)
class Counted:
    """A key that counts how often it is looked for."""

    number: int
    looks: list[int]

    def __hash__(self) -> int:
        self.looks[0] += 1
        return hash(self.number)


def test_a_round_looks_for_each_key_a_few_times_however_many_there_are() -> None:
    looks = [0]
    schedule = Schedule[Counted, int]()
    size = 2000
    values = {Counted(number, looks): 0 for number in range(size)}
    schedule.keep(values, values.keys())
    while taken := schedule.take(0.0, 8):
        for key in taken:
            schedule.again(key, 0, 100.0)
    assert looks[0] <= 12 * size
    looks[0] = 0
    for now in range(50):
        assert schedule.take(float(now), 8) == []
    assert looks[0] == 0
