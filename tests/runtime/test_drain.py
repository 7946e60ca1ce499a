"""The drain rate, on made-up clocks."""

import pytest

from service.runtime.drain import DrainRate


def test_busy_workers_are_measured_by_the_time_between_ends() -> None:
    rate = DrainRate(workers=2)
    for number in range(1000):  # two workers of which each call takes 0.3 s, one ends every 0.15 s
        end = 0.15 * number
        rate.ended(end - 0.3, end, more_wait=True)
    assert rate.seconds_per_call == pytest.approx(0.15)


def test_workers_that_hinder_each_other_are_not_taken_for_twice_as_fast() -> None:
    rate = DrainRate(workers=2)
    for number in range(1000):  # each call takes 0.3 s, and they still end only every 0.25 s
        end = 0.25 * number
        rate.ended(end - 0.3, end, more_wait=True)
    assert rate.seconds_per_call == pytest.approx(0.25)


def test_idle_time_is_not_counted() -> None:
    rate = DrainRate(workers=2)
    for number in range(100):
        rate.ended(60.0 * number, 60.0 * number + 0.3, more_wait=False)
    assert rate.seconds_per_call == pytest.approx(0.15)
    rate.ended(9000, 9000.3, more_wait=True)
    rate.ended(9900, 9900.3, more_wait=False)  # what waited was dropped; the workers slept
    assert rate.seconds_per_call < 0.3


def test_it_follows_the_work() -> None:
    rate = DrainRate(workers=1)
    for end, took in [(float(number), 0.01) for number in range(100)]:
        rate.ended(end - took, end, more_wait=False)
    for end, took in [(float(number), 1.0) for number in range(100, 200)]:
        rate.ended(end - took, end, more_wait=True)
    assert rate.seconds_per_call == pytest.approx(1, rel=0.02)


def test_one_slow_call_says_little_about_the_next() -> None:
    rate = DrainRate(workers=1)
    for number in range(100):
        rate.ended(number - 0.01, number, more_wait=False)
    rate.ended(100, 101, more_wait=False)
    assert rate.seconds_per_call < 0.1


def test_nothing_is_known_before_the_first_call() -> None:
    assert DrainRate(workers=4).seconds_per_call == 0
