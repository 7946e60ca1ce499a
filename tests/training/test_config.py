import json
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training import recipe, report, train, views
from training.config import RANGES, Config, ConfigError, from_saved, override
from training.distill import Distillation
from training.recipe import PRESETS
from training.teachers import DenseArchitecture

FULL = Config(dense=DenseArchitecture(), distillation=Distillation("views"))


def leaves(part: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Names and values of all settings, also of those inside the parts."""
    found: list[tuple[str, Any]] = []
    for item in fields(part):
        value = getattr(part, item.name)
        name = f"{prefix}{item.name}"
        found += leaves(value, f"{name}.") if is_dataclass(value) else [(name, value)]
    return found


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("balanced_classes=False", "balanced_classes must be true or false, not False"),
        ("balanced_classes=1", "balanced_classes must be true or false"),
        ("precision=float16", "precision must be float32 or bfloat16, not float16"),
        ("learning_rate=NaN", "learning_rate must be a number from 0 to 10, not NaN"),
        ("learning_rate=Infinity", "learning_rate must be a number"),
        ("learning_rate=null", "learning_rate must be a number"),
        ("learning_rate=true", "learning_rate must be a number"),
        ("epochs=1.5", "epochs must be a whole number from 1 to 100000, not 1.5"),
        ("epochs=abc", "epochs must be a whole number"),
        ("epochs=true", "epochs must be a whole number"),
        ("epochs=0", "epochs must be a whole number from 1"),
        ("votes=-1", "votes must be a number from 0"),
        ("held_out=-1", "held_out must be a number from 0 to 0.9"),
        ("held_out=1", "held_out must be a number from 0 to 0.9"),
        ("average_decay=2", "average_decay must be a number from 0 to 1"),
        ("momentum=0", "momentum must be a number from 0.01"),
        ("batch=0", "batch must be a whole number from 2"),
        ("batch=big", "batch must be a whole number from 2"),
        ("seed=-1", "seed must be a whole number from 0"),
        ("seed=abc", "seed must be a whole number from 0"),
        ("architecture.stages=5", "architecture.stages must be a list of whole numbers, each from 2"),
        ("architecture.stages=[]", "architecture.stages must be a list of whole numbers"),
        ("architecture.stages=[24,80]", "stages and architecture.repeats must be of the same length"),
        ("architecture.stages=[25,81,305]", "architecture.stages must be even numbers"),
        ("architecture.repeats=[1]", "stages and architecture.repeats must be of the same length"),
        ('architecture={"stem":8}', "architecture must be set by its own settings, architecture.stages and"),
        ("augmentation=5", "augmentation must be set by its own settings, augmentation.rotation and"),
        ("augmentation.jpeg=a", "augmentation.jpeg must be a number from 0 to 1, not a"),
        ("augmentation.smallest_side=50", "augmentation.smallest_side must be a whole number from 1 to 47"),
        ("dense.kind=resnet", "dense.kind cannot be set: this preset has no part 'dense'"),
        (
            "distillation.weight=1",
            "distillation.weight cannot be set: this preset has no part 'distillation'",
        ),
        ("epochs.first=1", "epochs.first cannot be set: this preset has no part 'epochs'"),
        ("dense=5", "dense must be set by its own settings, dense.kind and others"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(setting: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(Config(), [setting])
    assert problem in str(caught.value)


def test_a_dense_network_halves_images_only_as_often_as_they_can_be() -> None:
    assert override(FULL, ["early_side=8"]).early_side == 8
    with pytest.raises(ConfigError, match=r"dense\.blocks must be fewer: images of side 4 "):
        override(FULL, ["early_side=4"])
    with pytest.raises(ConfigError, match=r"dense\.kind must be resnet or vgg, not vit"):
        override(FULL, ["dense.kind=vit"])


def test_settings_that_fit_only_together_may_come_one_by_one() -> None:
    both = override(Config(), ["architecture.stages=[24, 80]", "architecture.repeats=[1, 2]"]).architecture
    assert (both.stages, both.repeats) == ((24, 80), (1, 2))


def test_values_have_the_type_of_their_setting() -> None:
    changed = override(FULL, ["votes=0", "distillation.views=5", "balanced_classes=true", "dense=null"])
    assert isinstance(changed.votes, float)
    assert changed.distillation == Distillation("5")
    assert changed.balanced_classes is True
    assert changed.dense is None


@pytest.mark.parametrize("config", [*PRESETS.values(), FULL], ids=[*PRESETS, "full"])
def test_every_preset_has_settings_that_can_be(config: Config) -> None:
    config = replace(config, distillation=config.distillation or Distillation("views"))
    settings = [f"{name}={json.dumps(value)}" for name, value in leaves(config)]
    assert asdict(override(config, settings)) == asdict(config)


@pytest.mark.parametrize("newer", [{"later": 1}, {"architecture": {"later": 1}}])
def test_a_run_of_a_newer_version_is_told_of(newer: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"settings of another version of this program: .*'later'"):
        from_saved(asdict(Config()) | newer)


def test_other_views_are_learned_from_as_the_preset_says() -> None:
    given = {"preset": "balanced-again", "views": "others", "begin_with": None, "resize": False}
    taught = train.configure(Namespace(**given, epochs=None, settings=[])).distillation
    assert taught == Distillation("others", weight=0.7)


def test_every_number_has_a_range() -> None:
    numbers = {name.rpartition(".")[2] for name, value in leaves(FULL) if not isinstance(value, bool | str)}
    assert numbers == RANGES.keys()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One image, as a folder of images."""
    (tmp_path / "data" / "train" / "happy").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "data" / "train" / "happy" / "1.png"), np.zeros((48, 48), np.uint8))
    return tmp_path / "data"


Command = Callable[..., tuple[Any, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """What a command ends with, and what it says, where it ends in a mistake."""

    def end(module: Any, *options: object) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, options)])
        with pytest.raises(SystemExit) as ended:
            module.main()
        return ended.value.code, capsys.readouterr().err

    return end


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
@pytest.mark.parametrize(
    ("module", "option"),
    [(train, "--epochs"), (train, "--images"), (train, "--threads"), (views, "--count"), (views, "--images")],
)
def test_numbers_of_things_are_positive(command: Command, module: Any, option: str, value: str) -> None:
    code, said = command(module, "--data", "data", "--run", "run", option, value)
    assert code == 2
    assert f"argument {option}: '{value}' is not a whole number from 1 on" in said


def test_wrong_settings_end_with_a_sentence(command: Command, data: Path, tmp_path: Path) -> None:
    code, _ = command(train, "--data", data, "--run", tmp_path / "run", "--set", "votes=-1")
    assert code == "train: votes must be a number from 0 to 1000, not -1"
    code, _ = command(train, "--data", data, "--run", tmp_path / "run", "--epochs", 10**6)
    assert code == "train: epochs must be a whole number from 1 to 100000, not 1000000"
    code, _ = command(train, "--data", data, "--run", tmp_path / "run", "--resize")
    assert code == "train: --resize needs --begin-with: what shall be resized?"
    code, _ = command(train, "--data", data, "--run", tmp_path / "run")
    told = "the data has no FER+ votes: pass --ferplus with fer2013new.csv, or --set votes=0"
    assert code == f"train: {told}"
    code, _ = command(views, "--data", data, "--run", tmp_path / "run", "--teachers", "any")
    assert code == f"views: {told}"
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_ends_with_a_sentence(command: Command, data: Path) -> None:
    file = data / "train" / "happy" / "1.png"
    code, _ = command(train, "--data", data, "--run", file / "run", "--set", "votes=0")
    assert code == f"train: {file / 'run'}: Not a directory"
    code, _ = command(recipe, "--data", data, "--runs", file)
    assert code == f"recipe: {file / 'vgg'}: Not a directory"


def test_a_report_that_cannot_be_written_ends_with_a_sentence(command: Command, data: Path) -> None:
    (data / "public_test").symlink_to(data / "train")
    file = data / "train" / "happy" / "1.png"
    code, _ = command(report, "--data", data, "--out", file / "page")
    assert code == f"report: {file / 'page'}: Not a directory"


def test_an_interrupted_command_says_how_to_go_on(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupt)
    code, said = command(train, "--data", data, "--run", tmp_path / "run", "--set", "votes=0")
    assert code == 130
    assert said == "train: interrupted; the same command goes on where it was last saved\n"


def test_a_config_saved_before_a_setting_existed_has_its_default() -> None:
    saved = asdict(Config())
    for name in ("dense", "distillation", "balanced_classes", "early_side", "early_share", "precision"):
        del saved[name]
    for name in ("blurred", "jpeg", "noise", "grid", "mixed", "cut"):
        del saved["augmentation"][name]
    assert from_saved(json.loads(json.dumps(saved))) == Config()


def test_settings_are_overridden_by_name() -> None:
    changed = override(Config(), ["votes=0", "augmentation.jpeg=0.3", "architecture.repeats=[2, 4, 2]"])
    assert (changed.votes, changed.augmentation.jpeg, changed.architecture.repeats) == (0, 0.3, (2, 4, 2))
    with pytest.raises(ConfigError, match="no setting 'jpg'; there are blurred, brightness"):
        override(Config(), ["augmentation.jpg=0.3"])
    with pytest.raises(ConfigError, match="is not name=value"):
        override(Config(), ["votes"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_its_own_json(name: str) -> None:
    assert from_saved(json.loads(json.dumps(asdict(PRESETS[name])))) == PRESETS[name]
