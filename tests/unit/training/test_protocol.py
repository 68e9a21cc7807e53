"""Protocols of training: shipped ones, own ones, and settings that cannot be used."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from reben_dask.cli import main
from reben_dask.errors import InputError
from reben_dask.training.protocol import ARCHITECTURES, MODALITIES, Protocol, load_protocol, shipped_protocols

PAPER = {"epochs": 100, "batch_size": 512, "dropout": 0.15, "drop_path": 0.15, "pretrained": False}


def test_the_defaults_are_those_of_the_paper() -> None:
    protocol = load_protocol()
    assert protocol.model_dump(include=set(PAPER)) == PAPER
    assert (protocol.optimizer.name, protocol.optimizer.learning_rate) == ("adamw", 1e-3)
    assert (protocol.schedule.shape, protocol.schedule.warmup_steps) == ("cosine", 1000)


def test_the_file_of_the_paper_has_every_key_and_the_defaults() -> None:
    file = resources.files("reben_dask.training") / "protocols" / "reben.yaml"
    keys = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert list(keys) == list(Protocol.model_fields)
    assert Protocol.of(**keys) == Protocol()
    for name in ("optimizer", "schedule"):
        assert keys[name].keys() == getattr(Protocol(), name).model_dump().keys()


@pytest.mark.parametrize("name", shipped_protocols())
def test_shipped_protocols_can_be_loaded(name: str) -> None:
    assert load_protocol(name.replace("_", "-")) == load_protocol(name)


def test_bands_of_the_modalities() -> None:
    s2 = ["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12"]
    expected = {"S1": ["VV", "VH"], "S2": s2, "S1+S2": [*s2, "VV", "VH"]}
    assert {name: list(bands) for name, bands in MODALITIES.items()} == expected
    assert Protocol(bands=("B04", "B03", "B02")).channels == ("B04", "B03", "B02")


def test_a_file_changes_some_keys_and_options_change_others(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: scnn\nepochs: 3\nschedule: {warmup_steps: 5}\n")
    protocol = load_protocol(file, epochs=7, seed=None)
    assert (protocol.model, protocol.epochs, protocol.seed) == ("scnn", 7, 0)
    assert (protocol.schedule.warmup_steps, protocol.schedule.shape) == (5, "cosine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", r"^epoch is 3, which cannot be used: "),
        ("model: resnet51", r"^model is 'resnet51', which cannot be used: Input should be 'resnet50', "),
        ("batch_size: 1", r"^batch_size is 1, which cannot be used: .* greater than or equal to 2"),
        ("bands: [B04, B04]", r"give each band once"),
        ("bands: [B13]", r"^bands\.0 is 'B13'"),
        ("optimizer: {learning_rate: 0}", r"^optimizer\.learning_rate is 0"),
        ("below_px: [100]", r"below_px is for networks that make maps, which resnet50 does not"),
        ("- 1", r"is not a table of keys"),
        ("a: [", r"is not valid YAML"),
    ],
)
def test_what_cannot_be_used_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_protocol(file)


def test_a_protocol_that_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"^There is no training protocol 'rebem'; use one of bigearthnet_v1, reben, "):
        load_protocol("rebem")
    with pytest.raises(InputError, match=r"^The training protocol no/such\.yaml does not exist\.$"):
        load_protocol("no/such.yaml")


def test_the_command_lists_all_networks_and_modalities() -> None:
    text = " ".join(CliRunner().invoke(main, ["train", "--help"]).stdout.split())
    assert not [name for name in ARCHITECTURES if name not in text]
    assert f"[{'|'.join(MODALITIES)}]" in text
