"""Who is told that a client is gone."""

from service.api.loss import Loss


def test_whoever_still_works_for_the_client_is_told() -> None:
    loss, told = Loss(), list[str]()
    loss.calls(lambda: told.append("working"))
    loss.calls(lambda: told.append("done"))()
    loss.happen()
    assert told == ["working"]


def test_who_begins_when_the_client_is_gone_is_told_at_once() -> None:
    loss, told = Loss(), list[str]()
    loss.happen()
    loss.calls(lambda: told.append("begun"))
    assert told == ["begun"]


def test_who_leaves_because_he_is_told_keeps_no_other_from_it() -> None:
    loss, told = Loss(), list[str]()

    def end() -> None:
        leave()

    leave = loss.calls(end)
    loss.calls(lambda: told.append("other"))
    loss.happen()
    assert told == ["other"]
