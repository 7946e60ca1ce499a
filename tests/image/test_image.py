from service.version import __version__
from tests.image.containers import inspect

MOST_BYTES = 600_000_000


def test_the_image_is_small(image: str) -> None:
    assert inspect(image)["Size"] <= MOST_BYTES


def test_the_image_says_what_it_is_and_starts_no_shell(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["Entrypoint"] == ["/opt/fer-service/bin/fer-service"]
    assert config["Cmd"] == ["serve"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "fer-service"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert config["Labels"]["org.opencontainers.image.revision"]
