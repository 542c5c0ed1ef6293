"""SOAP: the steps of an independent implementation, faster where Adam crawls, and resumed bit by bit."""

import pytest
import pytorch_optimizer
import torch
from torch import nn

from bestiary.catalogue import create
from bestiary.data import load_data
from bestiary.data.specs import ImageSpec
from bestiary.errors import OptionError
from bestiary.models.optimizers import named_optimizer
from bestiary.models.soap import SOAP
from bestiary.runs import train
from bestiary.runs.folder import load


def regression(turn=False):
    """Inputs that vary by factors of 1 to 3, in directions of the axes or turned, and their targets."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=generator, dtype=torch.float64) * torch.logspace(0, -0.5, 6)
    y = x @ torch.randn(6, 6, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    return (x @ turned if turn else x), y


def linear():
    # as many outputs as inputs: of a gradient of lower rank the eigenvectors would be left to rounding
    model = nn.Linear(6, 6, dtype=torch.float64)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    return model


def fitted(model, make, steps, turn=False):
    x, y = regression(turn)
    optimizer = make(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return (model(x) - y).square().mean().item()


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("steps", [1, 2, 11, 31])
def test_steps_are_those_of_an_independent_implementation(steps, decay):
    ours, theirs = linear(), linear()
    fitted(ours, lambda p: SOAP(p, lr=0.02, weight_decay=decay), steps)
    fitted(theirs, lambda p: pytorch_optimizer.SOAP(p, lr=0.02, weight_decay=decay), steps)
    assert (steps == 1) == torch.equal(ours.weight, linear().weight)
    # theirs rounds its eigenvectors to float32 when it refreshes them
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=0, atol=1e-5)


def test_rmsprop_has_no_decay_of_this_kind():
    with pytest.raises(OptionError, match="for rmsprop, wanted optimizer=adam or soap"):
        named_optimizer("rmsprop", 1e-3, weight_decay=0.1)


@pytest.mark.parametrize("name", ["adam", "soap"])
def test_decay_is_apart_from_the_step(name):
    weight = nn.Parameter(torch.full((3, 2), 2.0))
    optimizer = named_optimizer(name, 0.1, weight_decay=0.5)([weight])
    for _ in range(2):  # the first of SOAP only starts its means
        weight.grad = torch.zeros(3, 2)
        optimizer.step()
    torch.testing.assert_close(weight.data, torch.full((3, 2), 2.0 * 0.95 ** (2 if name == "adam" else 1)))


def test_the_kernels_of_a_convolution_are_a_matrix_of_maps_by_taps():
    taps = torch.randn(40, 2 * 3 * 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = nn.Parameter(torch.zeros(5, 18, dtype=torch.float64))
    kernel = nn.Parameter(torch.zeros(5, 2, 3, 3, dtype=torch.float64))
    for parameter in (flat, kernel):
        optimizer = SOAP([parameter])
        for begin in range(0, 40, 2):
            parameter.grad = None
            (taps[begin : begin + 2] @ parameter.view(5, 18).T).sin().add(1).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(kernel.view(5, 18), flat, rtol=0, atol=1e-12)


def test_it_does_not_matter_how_the_inputs_are_turned():
    def change(make):
        return fitted(linear(), make, 40, turn=True) / fitted(linear(), make, 40) - 1

    assert abs(change(lambda p: SOAP(p, lr=0.02))) < 1e-5
    assert abs(change(lambda p: torch.optim.Adam(p, lr=0.02))) > 0.01


def test_a_closure_is_computed_with_gradients_and_returned():
    parameter = nn.Parameter(torch.ones(2, 3))
    optimizer = SOAP([parameter], lr=0.1)

    def cost():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(cost) == 6
    assert optimizer.step(cost) == 6
    assert optimizer.step(cost) < 6


def test_a_side_that_is_too_long_is_not_turned():
    parameter = nn.Parameter(torch.zeros(3, 5))
    optimizer = SOAP([parameter], lr=0.1, longest=4)
    for _ in range(30):
        parameter.grad = 2 * (parameter.detach() - 1)
        optimizer.step()
    assert set(optimizer.state[parameter]) == {"step", "mean", "square", "left", "left_basis"}
    assert (parameter - 1).abs().mean() < 0.5


def test_taps_that_are_always_masked_do_no_harm():
    # products of such gradients have rows of zeros, for nearly all of which LAPACK's eigenvectors failed
    for seed in range(5):
        gradient = torch.randn(64, 64, 9, generator=torch.Generator().manual_seed(seed))
        gradient[:, :, 4:] = 0
        parameter = nn.Parameter(torch.zeros(64, 64, 9))
        optimizer = SOAP([parameter], lr=0.1)
        for _ in range(2):
            parameter.grad = gradient
            optimizer.step()
        assert parameter.isfinite().all()
        assert parameter[:, :, :4].abs().mean() > 0.01


def test_a_training_by_soap_is_resumed_bit_by_bit(tmp_path):
    data = load_data("digits-fixed")
    settings = {"channels": 8, "head_channels": 8, "blocks": 2, "optimizer": "soap", "learning_rate": 0.003}

    def trained(folder, budget, **options):
        model = create("pixelcnn", spec=data.spec, seed=0, **settings)
        return train(model, data, budget=budget, out=folder, seed=0, device="cpu", **options)

    trained(tmp_path / "whole", "25 rounds")
    trained(tmp_path / "halves", "25 rounds", until=0.5)
    assert trained(tmp_path / "halves", "25 rounds", resume=True).status == "finished"
    whole, halves = (load(tmp_path / name).state_dict() for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_a_vae_by_soap_has_no_basis_of_its_pixels():
    settings = {"optimizer": "soap", "learning_rate": 1e-3, "hidden": [8]}
    player = create("vae", spec=ImageSpec(1, 28, 28, levels=2), **settings).players()["model"]
    optimizer = player.optimizer(player.parameters)
    for parameter in player.parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    bases = {
        tuple(parameter.shape): {"left", "right"} & set(optimizer.state[parameter])
        for parameter in player.parameters
        if parameter.ndim == 2
    }
    assert bases[8, 784] == {"left"}
    assert bases[784, 8] == {"right"}
    assert bases[8, 20] == {"left", "right"}
