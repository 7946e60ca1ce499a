"""Whose turn it is: a batch beside single images, several batches, dropped items."""

from collections.abc import Hashable, Sequence
from weakref import ref

from service.runtime.turns import Turns


def queued(*owners_with_counts: tuple[str, int]) -> Turns[str]:
    turns: Turns[str] = Turns()
    for owner, count in owners_with_counts:
        for number in range(count):
            turns.put(owner, f"{owner}{number}")
    return turns


def taken(turns: Turns[str], count: int) -> Sequence[str]:
    """Taken and dealt with, one after the other."""
    items = []
    for _ in range(count):
        turn = turns.take()
        assert turn is not None
        owner, item = turn
        items.append(item)
        turns.done(owner)
    return items


def held(turns: Turns[str]) -> Hashable:
    """The owner of an item that is taken and stays out."""
    turn = turns.take()
    assert turn is not None
    return turn[0]


def test_single_items_go_first_come_first_served() -> None:
    assert taken(queued(("a", 1), ("b", 1), ("c", 1)), 3) == ["a0", "b0", "c0"]


def test_many_items_of_one_owner_take_turns_with_the_others() -> None:
    turns = queued(("batch", 4), ("x", 1), ("other", 2), ("y", 1))
    assert taken(turns, 8) == ["batch0", "x0", "other0", "y0", "batch1", "other1", "batch2", "batch3"]
    assert turns.take() is None


def test_who_comes_later_goes_before_an_owner_that_has_items_out() -> None:
    turns = queued(("batch", 5))
    assert [held(turns), held(turns)] == ["batch", "batch"]
    turns.put("x", "x0")
    assert held(turns) == "x"


def test_an_owner_with_one_of_its_items_dealt_with_still_has_the_others_out() -> None:
    turns = queued(("batch", 5))
    assert [held(turns), held(turns)] == ["batch", "batch"]
    turns.done("batch")
    turns.put("x", "x0")
    assert held(turns) == "x"


def test_nothing_is_kept_of_an_owner_that_has_no_item_left() -> None:
    """By default that is the call itself, which holds an image."""

    class Owner:
        pass

    turns: Turns[str] = Turns()
    owner = Owner()
    turns.put(owner, "x0")
    kept = ref(owner)
    assert taken(turns, 1) == ["x0"]
    del owner
    assert kept() is None


def test_a_stream_of_single_items_does_not_starve_a_batch() -> None:
    turns = queued(("batch", 3))
    order: list[str] = []
    for number in range(6):
        turns.put(f"single{number}", f"single{number}")
        order += taken(turns, 1)
    assert [item for item in order if item.startswith("batch")] == ["batch0", "batch1", "batch2"]


def test_what_is_dropped_is_not_handed_out() -> None:
    turns = queued(("batch", 3), ("x", 1))
    turns.drop("batch", "batch1")
    turns.drop("x", "x0")
    turns.drop("x", "x0")
    turns.drop("nobody", "nothing")
    assert len(turns) == 2
    assert taken(turns, 2) == ["batch0", "batch2"]


def test_clearing_hands_back_all_that_waits() -> None:
    turns = queued(("batch", 2), ("x", 1))
    assert turns.clear() == ["batch0", "batch1", "x0"]
    assert len(turns) == 0
    assert turns.take() is None
