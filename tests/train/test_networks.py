"""Networks: every one learns from two patches, and gives outputs of the right shape."""

from __future__ import annotations

import pytest
import torch

from reben_dask.training.evaluation import Trainee
from reben_dask.training.fit import learning_rate
from reben_dask.training.networks import build_network, count_parameters
from reben_dask.training.protocol import ARCHITECTURES, MODALITIES, Schedule, load_protocol

CLASSES = tuple("abcde")
PARAMETERS_M = {
    "resnet50": 23.5,
    "resnet101": 42.5,
    "vit_base": 86,
    "mlp_mixer": 59,
    "convmixer": 20.3,
    "mobilevit_s": 4.9,
    "convnextv2_base": 87.7,
    "densenet121": 7.0,
    "deeplabv3": 39.6,
    "scnn": 7.4,
}
"""Sizes in millions, without most of the classes of ImageNet: published ones, or computed by hand (S-CNN)."""


NETWORKS = [(model, "S1+S2") for model in ARCHITECTURES]
NETWORKS += [(model, modality) for model in ("scnn", "resnet50") for modality in MODALITIES if modality != "S1+S2"]
"""Every architecture with all channels; only the first layer is another with fewer."""


@pytest.mark.parametrize(("model", "modality"), NETWORKS)
def test_two_steps(model: str, modality: str) -> None:
    torch.manual_seed(0)
    protocol = load_protocol(model=model, modality=modality)
    network = build_network(protocol, len(CLASSES))
    assert count_parameters(network) / 1e6 == pytest.approx(PARAMETERS_M[model], rel=0.03)
    trainee = Trainee(network.train(), protocol, CLASSES, torch.device("cpu"))
    size = (2, len(protocol.channels), 120, 120)
    maps = torch.randint(0, 5, (2, 120, 120))
    batch = {"image": torch.randn(size), "label": (torch.rand(2, 5) < 0.5).float(), "mask": maps}
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    steps = []
    for _ in range(2):
        logits = trainee.logits(batch)
        assert logits.shape == ((2, 5, 120, 120) if model == "deeplabv3" else (2, 5))
        optimizer.zero_grad()
        loss = trainee.loss(logits, batch)
        loss.backward()
        assert torch.isfinite(loss)
        steps.append([parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.parameters()])
        optimizer.step()
    # Drop path may leave out a block for both patches.
    assert sum(steps[-1]) > 0.8 * len(before)
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert moved[0]
    assert moved[-1]
    ((_, alone),) = trainee.predictions([{"image": batch["image"][:1]}])
    ((_, both),) = trainee.predictions([batch])
    torch.testing.assert_close(alone, both[:1], atol=1e-4, rtol=1e-3)


def test_the_learning_rate_by_step() -> None:
    schedule = Schedule(warmup_steps=10, max_warmup_share=0.5, start=0.1, end=0.2)
    rates = [learning_rate(schedule, step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 + 0.9 * (step + 1) / 10 for step in range(10)])
    assert rates[9] == rates[10] == 1
    assert rates[60] == pytest.approx(0.6)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.2, abs=1e-3)
    short = Schedule(warmup_steps=1000, max_warmup_share=0.1)
    assert [learning_rate(short, step, 20) for step in range(3)] == pytest.approx([0.5, 1, 1])
    constant = Schedule(shape="constant", warmup_steps=0)
    assert {learning_rate(constant, step, 20) for step in range(20)} == {1.0}


def test_the_learning_rate_of_the_paper_is_that_of_pytorch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 45_460)
    schedule = load_protocol().schedule
    for step in range(2_000):
        assert learning_rate(schedule, 1_000 + step, 46_460) == pytest.approx(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()
