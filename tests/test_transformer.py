"""Transformer: causality, exact masses, cached sampling, and completion."""

import itertools
import math

import pytest
import torch

from bestiary import catalogue
from bestiary.data.specs import Classes, ImageSpec, SequenceSpec, Vector
from bestiary.data.splits import Batch
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive import transformer
from bestiary.models.autoregressive.drawing import inverse_cdf
from bestiary.models.base import Clock, Step
from bestiary.networks.causal_attention import sinusoids

SPECS = {
    "binary": SequenceSpec(7, 2),
    "text": SequenceSpec(6, 9),
    "labelled": SequenceSpec(5, 4, condition=Classes(3)),
    "vectors": SequenceSpec(5, 4, condition=Vector(3)),
}
every_spec = pytest.mark.parametrize("kind", SPECS)


def build(spec, *, seed=0, **settings):
    """A random model in float64; its tied embeddings make its distributions far from uniform."""
    small = {"layers": 2, "heads": 2, "model_dim": 12, "feedforward_dim": 24}
    return catalogue.create("transformer", spec=spec, seed=seed, **{**small, **settings}).double()


def conditions(spec, n):
    generator = torch.Generator().manual_seed(5)
    if isinstance(spec.condition, Classes):
        return torch.randint(spec.condition.n, (n,), generator=generator)
    if isinstance(spec.condition, Vector):
        return torch.randn(n, spec.condition.d, generator=generator)
    return None


def sequences(spec, n, seed=6):
    return torch.randint(spec.vocabulary, (n, spec.length), generator=torch.Generator().manual_seed(seed))


def every_sequence(spec):
    return torch.tensor(list(itertools.product(range(spec.vocabulary), repeat=spec.length)))


def naive(model, uniform, condition=None, temperature=1.0):
    """A forward pass over everything for each position."""
    x = torch.zeros(len(uniform), model.spec.length, dtype=torch.int64)
    with model.evaluation():
        for t in range(model.spec.length):
            x[:, t] = inverse_cdf(
                model.logits(x, condition)[:, :, t], uniform[:, t].contiguous(), temperature
            )
    return x


# The network


def test_a_position_sees_all_earlier_ones_and_no_other():
    model = build(SPECS["text"])
    embedded = model.network.embed(sequences(model.spec, 1)).detach()
    jacobian = torch.autograd.functional.jacobian(lambda e: model.network.decode(e)[0], embedded)
    seen = jacobian[:, :, 0].ne(0).any(dim=1).any(dim=-1)  # (T of the logits, T of the embeddings)
    assert torch.equal(seen, torch.ones(6, 6).tril().bool())


def test_logits_of_a_symbol_depend_on_those_before_it_alone():
    """An embedding at t is of the symbol at t − 1: by the symbols themselves, one after the other."""
    model = build(SPECS["text"])
    x = sequences(model.spec, 1)
    with model.evaluation():
        before = model.logits(x)
        for t in range(6):
            changed = x.clone()
            changed[0, t] = (x[0, t] + 1) % 9
            differs = (model.logits(changed) - before)[0].abs().amax(0) > 1e-12
            assert torch.equal(differs, torch.arange(6) > t)


def test_attention_is_the_formula():
    attention = build(SPECS["text"]).network.layers[0].attention
    x = torch.randn(2, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    heads = []
    for head in range(2):
        rows = slice(6 * head, 6 * head + 6)
        query, key, value = (x @ w[rows].t() for w in attention.inward.weight.chunk(3))
        scores = query @ key.transpose(1, 2) / math.sqrt(6)
        weights = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf).softmax(-1)
        heads.append(weights @ value)
    torch.testing.assert_close(attention(x), torch.cat(heads, -1) @ attention.outward.weight.t())


def test_positions_are_the_papers_sines():
    table = sinusoids(50, 7)
    for t, i in [(0, 0), (3, 0), (49, 2)]:
        angle = t / 10000 ** (2 * i / 7)
        assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    assert table.shape == (50, 7)


def test_the_base_model_has_the_papers_sizes():
    model = catalogue.create("transformer", spec=SequenceSpec(21, 27))
    d, hidden = 512, 2048
    layer = 4 * d * d + 2 * d * hidden + hidden + d + 4 * d  # W^Q W^K W^V W^O, the network, two norms
    assert model.parameter_count == 6 * layer + 2 * d + 28 * d


def test_the_learning_rate_is_the_papers():
    model = catalogue.create("transformer", spec=SPECS["binary"])
    player = model.players()["model"]
    for update in (1, 100, 4000, 4001, 100_000):
        published = 512**-0.5 * min(update**-0.5, update * 4000**-1.5)
        factor = player.schedule(Clock(updates={"model": update - 1}))
        assert model.settings["learning_rate"] * factor == pytest.approx(published, rel=1e-9)
    annealed = transformer.Transformer.tiny(SPECS["binary"])
    assert annealed.players()["model"].optimizer.keywords["betas"] == (0.9, 0.98)
    half = build(SPECS["binary"], anneal=1.0, warmup=1).players()["model"].schedule(Clock(progress=0.5))
    assert half == pytest.approx(0.5)


# Likelihood


@pytest.mark.parametrize("kind", ["text", "labelled", "vectors"])
def test_masses_of_all_sequences_sum_to_one(kind):
    spec = {
        "text": SequenceSpec(4, 5),
        "labelled": SequenceSpec(3, 4, condition=Classes(2)),
        "vectors": SequenceSpec(3, 4, condition=Vector(2)),
    }[kind]
    model, x = build(spec), every_sequence(spec)
    masses = []
    rows = {
        "text": [None],
        "labelled": torch.tensor([0, 1]),
        "vectors": torch.tensor([[0.0, 0.0], [1.0, -2.0]]),
    }
    for row in rows[kind]:
        condition = None if row is None else row.expand(len(x), *row.shape)
        with torch.no_grad():
            masses.append(model.log_prob(x, condition=condition))
        assert masses[-1].exp().sum().item() == pytest.approx(1, abs=1e-10)
        assert masses[-1].std() > 0.1
    if row is not None:
        assert (masses[0] - masses[1]).abs().max() > 0.01


@every_spec
def test_chunks_change_nothing(kind, monkeypatch):
    spec = SPECS[kind]
    model, x, condition = build(spec), sequences(spec, 7), conditions(spec, 7)
    draw = lambda: model.sample(7, condition=condition, generator=torch.Generator().manual_seed(1))  # noqa: E731
    with torch.no_grad():
        whole, drawn = model.log_prob(x, condition=condition), draw()
        monkeypatch.setattr(transformer, "SAMPLE_CHUNK", 3)
        torch.testing.assert_close(model.log_prob(x, condition=condition), whole)
    assert torch.equal(draw(), drawn)


def test_the_cost_is_the_mean_likelihood_and_its_bits():
    spec = SPECS["text"]
    model, x = build(spec), sequences(spec, 5)
    terms = model.cost(Step(5, Clock(), torch.Generator(), {}, Batch(x)))
    nats = -model.log_prob(x).mean()
    assert terms["loss"].item() == pytest.approx(nats.item())
    assert terms["bits_per_dim"].item() == pytest.approx(nats.item() / 6 / math.log(2))
    assert model.treatment == "mass"


def test_bfloat16_costs_no_tenths_of_a_nat():
    spec = SequenceSpec(21, 27)
    model, x = build(spec).float(), sequences(spec, 8)
    with torch.no_grad():
        whole = model.log_prob(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model.log_prob(x)
    assert half.dtype == torch.float32
    assert ((half - whole) / whole).abs().max() < 0.01


def test_certainty_after_the_end_is_learned():
    """Words of a toy corpus; after training, what follows an end symbol costs next to nothing."""
    spec = SequenceSpec(6, 4)
    words = torch.tensor([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [2, 2, 1, 3, 0, 0], [1, 3, 0, 0, 0, 0]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformer.Transformer.tiny(spec)
        player = model.players()["model"]
        optimizer = player.optimizer(player.parameters)
        for _ in range(150):
            optimizer.zero_grad()
            model.cost(Step(4, Clock(), torch.Generator(), {}, Batch(words)))["loss"].backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        found = model.log_prob(words)
        drawn = model.sample(200, generator=torch.Generator().manual_seed(0))
    assert found.sum().item() == pytest.approx(4 * math.log(1 / 4), abs=0.4)
    known = {tuple(row) for row in words.tolist()}
    assert sum(tuple(row) in known for row in drawn.tolist()) > 180


# Drawing


@every_spec
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_cached_samples_are_the_naive_ones(kind, temperature):
    spec = SPECS[kind]
    model, condition = build(spec), conditions(spec, 40)
    uniform = model.uniform(40, spec.length, generator=torch.Generator().manual_seed(2))
    expected = naive(model, uniform, condition, temperature)
    assert len(expected.unique()) >= min(spec.vocabulary, 5)
    told = []
    cached = model.sample(
        40,
        condition=condition,
        generator=torch.Generator().manual_seed(2),
        temperature=temperature,
        progress=told.append,
    )
    assert cached.dtype == torch.int64
    assert torch.equal(cached, expected)
    assert told == [(t + 1) / spec.length for t in range(spec.length)]


@every_spec
def test_cached_logits_in_float32_are_those_of_the_whole_sequence(kind):
    spec = SPECS[kind]
    model, x, condition = build(spec).float(), sequences(spec, 5), conditions(spec, 5)
    with model.evaluation():
        whole = model.logits(x, condition)
        cache = model.cache(5, condition)
        for t in range(spec.length):
            torch.testing.assert_close(cache.logits(0, t, 0), whole[:, :, t], rtol=0, atol=1e-4)
            cache.put(0, t, 0, x[:, t] / (spec.vocabulary - 1))
    assert whole.std() > 0.1


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_sequences_can_be_exchanged_in_the_middle_of_drawing(cut):
    spec, chosen = SPECS["text"], torch.tensor([2, 2, 0, 1])
    model, x = build(spec), sequences(spec, 4)
    with model.evaluation():
        cache = model.cache(4)
        for t in range(spec.length):
            if t == cut:
                cache.select(chosen)
            logits = cache.logits(0, t, 0)
            cache.put(0, t, 0, (x[:, t] if t < cut else x[chosen, t]) / 8)
        torch.testing.assert_close(logits, model.logits(x[chosen])[:, :, -1])


def test_samples_have_the_likelihood_that_their_entropy_says():
    spec = SequenceSpec(4, 4)
    model = build(spec)
    with torch.no_grad():
        log_mass = model.log_prob(every_sequence(spec))
        entropy = -(log_mass.exp() * log_mass).sum().item()
        found = -model.log_prob(model.sample(4000, generator=torch.Generator().manual_seed(0)))
    assert found.mean().item() == pytest.approx(entropy, abs=4 * found.std().item() / math.sqrt(4000))


def test_completions_follow_the_exact_conditional_law():
    """The first two symbols are missing, the last two known: all nine completions against their masses."""
    spec = SequenceSpec(4, 3)
    model, everything = build(spec), every_sequence(spec)
    observed = torch.tensor([False, False, True, True])
    with torch.no_grad():
        log_mass = model.log_prob(everything)
    truth = everything[log_mass.argsort()[40]]
    agree = (everything == truth)[:, observed].all(dim=1)
    exact = log_mass[agree].softmax(0)
    n = 600
    hidden = torch.where(observed, truth, -7)  # what is not observed does not matter
    found = model.completion(hidden[None], observed, n=n, particles=32,
                             generator=torch.Generator().manual_seed(0))  # fmt: skip
    assert found.images.dtype == torch.int64
    assert torch.equal(found.images[:, 0, 2:], truth[2:].expand(n, -1))
    shares = torch.stack([(found.images[:, 0] == row).all(1).double().mean() for row in everything[agree]])
    assert shares.sum().item() == pytest.approx(1)
    assert (shares - exact).abs().max().item() < 4 * math.sqrt(0.25 / n) + 0.02
    estimate = found.log_observed.logsumexp(0).item() - math.log(n)
    assert estimate == pytest.approx(log_mass[agree].logsumexp(0).item(), abs=0.02)


def test_a_known_beginning_is_completed_by_one_particle():
    spec = SPECS["labelled"]
    model, x, condition = build(spec), sequences(spec, 3), conditions(spec, 3)
    observed = torch.arange(5) < 2
    found = model.completion(x, observed, n=2, condition=condition)
    assert found.images.shape == (2, 3, 5)
    assert torch.equal(found.images[:, :, :2], x[:, :2].expand(2, -1, -1))
    assert (found.effective_sample_size == 1).all()


# Mistakes


def test_mistakes_are_one_line():
    spec = SPECS["labelled"]
    model, x, labels = build(spec), sequences(spec, 2), torch.tensor([0, 1])
    seen = torch.ones(5, dtype=torch.bool)
    for call, error, message in [
        (lambda: build(ImageSpec(1, 8, 8)), DataError, "model of sequences, found ImageSpec, wanted Sequen"),
        (
            lambda: build(SequenceSpec(5, 1)),
            DataError,
            "found sequences of 5 symbols out of 1, wanted at leas",
        ),
        (
            lambda: build(spec, heads=5),
            OptionError,
            "heads: found 5, wanted a divisor of model_dim, which is",
        ),
        (lambda: model.log_prob(x.float(), condition=labels), DataError, r"x: found torch.float32 of shape"),
        (
            lambda: model.log_prob(x[:, :4], condition=labels),
            DataError,
            r"wanted int64 sequences of shape \(B,",
        ),
        (lambda: model.log_prob(x + 3, condition=labels), DataError, "x: found symbols from 3 to"),
        (lambda: model.log_prob(x), DataError, "condition: found None"),
        (lambda: model.sample(2, condition=labels + 9), DataError, "condition: found labels from 9 to 10"),
        (lambda: model.sample(2, condition=labels, temperature=0), OptionError, "temperature: found 0"),
        (
            lambda: model.complete(x, seen.float(), condition=labels),
            DataError,
            "observed: found torch.float32",
        ),
        (
            lambda: model.complete(x, seen[:3], condition=labels),
            DataError,
            "wanted bool of the sequences' shape",
        ),
        (lambda: model.complete(x + 9, seen, condition=labels), DataError, "x: found symbols from"),
        (lambda: model.complete(x, seen, condition=labels, n=0), OptionError, "n: found 0"),
        (lambda: model.complete(x, seen, condition=labels, particles=0), OptionError, "particles: found 0"),
    ]:
        with pytest.raises(error, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
