"""Every model of the catalogue is held to `check_model`, on every kind of data it is made for."""

import subprocess
import sys

import pytest
import torch

from bestiary import catalogue
from bestiary.data import load_data
from bestiary.data.specs import Classes, ImageSpec, PointSpec, SequenceSpec
from bestiary.errors import DataError, OptionError
from bestiary.models.base import LikelihoodBound, Sampler
from bestiary.testing import check_model

GREY = ImageSpec(1, 8, 8, levels=4)
BINARY = ImageSpec(1, 8, 8, levels=2)
COLOUR = ImageSpec(3, 8, 8, levels=256)
LABELLED = ImageSpec(1, 8, 8, levels=4, condition=Classes(3))
OF_POINTS = (
    "ppca",
    "gaussian-mixture",
    "autoencoder",
    "vae",
    "beta-vae",
    "spherical-vae",
    "ladder-vae",
    "iwae",
    "minimax-gan",
    "ns-gan",
    "ml-gan",
    "lsgan",
    "wgan",
    "wgan-gp",
    "dragan",
    "began",
    "unrolled-gan",
)
OF_SEQUENCES = ("transformer",)
OF_IMAGES = [name for name in catalogue.CATALOGUE if name not in OF_SEQUENCES]


@pytest.mark.parametrize(
    "spec", [GREY, BINARY, COLOUR, LABELLED], ids=["grey", "binary", "colour", "labelled"]
)
@pytest.mark.parametrize("name", OF_IMAGES)
def test_images(name, spec):
    check_model(name, spec)


@pytest.mark.parametrize("name", OF_POINTS)
def test_points(name):
    check_model(name, PointSpec(3))


@pytest.mark.parametrize("condition", [None, Classes(3)], ids=["plain", "labelled"])
@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_sequences(name, condition):
    check_model(name, SequenceSpec(6, 5, condition=condition))


@pytest.mark.parametrize("preset", ["laptop", "paper"])
@pytest.mark.parametrize("name", OF_IMAGES)
def test_models_of_images_refuse_sequences_in_one_line(name, preset):
    with pytest.raises((DataError, OptionError), match="SequenceSpec") as refused:
        catalogue.create(name, spec=SequenceSpec(6, 5), preset=preset)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["autoencoder", "vae", "conditional-vae", "spherical-vae", "ladder-vae", "iwae"]
)
def test_what_is_no_example_is_refused_in_one_line(name):
    model = catalogue.CATALOGUE[name].load().tiny(LABELLED if name == "conditional-vae" else GREY)
    for x in (torch.rand(2, 1, 9, 9), torch.zeros(2, *GREY.shape, dtype=torch.uint8), [[0.5]]):
        with pytest.raises(DataError, match=r"x: found .*, wanted "):
            model.encode(x)
    if isinstance(model, LikelihoodBound):
        with pytest.raises(OptionError, match="particles: found 0, wanted a whole number ≥ 1"):
            model.log_prob_bound(torch.rand(2, *GREY.shape), particles=0)


@pytest.mark.parametrize("name", [*OF_IMAGES, *OF_SEQUENCES])
def test_less_than_nothing_cannot_be_drawn(name):
    spec = {"transformer": SequenceSpec(6, 5), "conditional-vae": LABELLED}.get(name, GREY)
    model = catalogue.CATALOGUE[name].load().tiny(spec)
    if isinstance(model, Sampler):
        nothing = torch.empty(0, dtype=torch.int64) if spec == LABELLED else None
        assert model.sample(0, condition=nothing).shape == (0, *spec.shape)
        with pytest.raises((DataError, OptionError), match=r"\b(n|condition): found "):
            model.sample(-1)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "x", True])
def test_a_seed_is_a_whole_number_of_63_bits(seed):
    with pytest.raises(OptionError, match=r"seed: found .*, wanted a whole number from 0 to 2\*\*63 - 1"):
        catalogue.create("vae", spec=GREY, preset="laptop", seed=seed)


def test_settings_are_checked_wherever_a_model_is_made():
    from bestiary.models.adversarial.gan import GAN

    with pytest.raises(OptionError, match="did you mean 'latent_dim'"):
        GAN(GREY, latent_dims=3)
    with pytest.raises(OptionError, match=r"latent_dim: found 0, wanted a whole number ≥ 1"):
        GAN(GREY, latent_dim=0)
    with pytest.raises(OptionError, match="learning_rate: found 'fast', wanted a number > 0"):
        catalogue.create("ns-gan", spec=GREY, learning_rate="fast")


def test_create_leaves_the_global_random_state_alone_and_repeats():
    before = torch.random.get_rng_state()
    a, b, c = (catalogue.create("vae", spec=GREY, hidden=[4], seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a.encoder[1].weight, b.encoder[1].weight)
    assert not torch.equal(a.encoder[1].weight, c.encoder[1].weight)


@pytest.mark.parametrize("name", catalogue.CATALOGUE)
def test_presets_are_valid_settings(name):
    from bestiary.config import resolve

    entry = catalogue.entry(name)
    for preset in ("paper", "laptop"):
        assert resolve(entry.load(), entry.settings(preset), owner=name, strict=True)


def test_infogan_networks_have_the_papers_sizes():
    from bestiary.networks import infogan

    spec = ImageSpec(1, 28, 28)
    count = lambda network: sum(p.numel() for p in network.parameters())  # noqa: E731
    assert count(infogan.generator(spec, latent_dim=64)) == 6_642_241
    assert count(infogan.discriminator(spec)) == 6_559_169
    assert count(infogan.discriminator(spec, batch_norm=False)) == 6_556_865


@pytest.mark.parametrize("name", ["ppca", "gaussian-mixture"])
def test_a_closed_form_is_fitted_to_a_split_or_to_a_data_set(name):
    data = load_data("digits")
    one, other = (catalogue.create(name, spec=data.spec, preset="laptop") for _ in range(2))
    one.fit(data, generator=torch.Generator().manual_seed(0))
    other.fit(data.train, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.log_density(data.test[:5].x), other.log_density(data.test[:5].x))


def test_parts_of_the_package_are_there_without_being_imported():
    code = (
        "import bestiary as b; b.objectives.games.minimax, b.runs.load, b.catalogue.entry, b.errors.RunError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
