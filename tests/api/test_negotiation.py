import pytest

from service.api.errors import NotAcceptableError
from service.api.negotiation import negotiate

OFFERS = ["application/json", "image/jpeg", "image/png"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/jpeg"),
        ("image/*, image/jpeg;q=0", "image/png"),
        ("image/*;q=0.5, application/json;q=0.4", "image/jpeg"),
        ("IMAGE/PNG ; q=1.0", "image/png"),
        ("text/html, */*;q=0.1", "application/json"),
    ],
)
def test_the_wanted_answer_is_chosen(accept: str | None, expected: str) -> None:
    assert negotiate(accept, OFFERS) == expected


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "image/png;q=x", ","])
def test_what_no_answer_satisfies_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptableError):
        negotiate(accept, OFFERS)
