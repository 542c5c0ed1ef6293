"""How fast the training loop is: every model against the loop that everybody writes, and against pythae.

    python benchmarks/training.py --out benchmarks/training.json

Both sides train the same networks at the same batch size on the same images, alternating block by block in
one process on all cores; a row's rates are medians over the blocks, its ratio the median of the blocks'
ratios. The plain loop is float32, contiguous, `torch.optim.Adam` and a shuffling `DataLoader`, with one
forward pass of the generator for both players, as in PyTorch's own DCGAN tutorial, and with the penalty,
clipping or controller of each game. Where a textbook's cost is no few lines (an unrolled game's steps
ahead, logistic mixtures, hierarchies, codes on a sphere) the cost is the model's own on both sides, and
what differs is the loop. Ours is what `bestiary train` runs, its log included, but by Adam. `pythae` is
compared by `--pythae` (`pip install pythae`): its trainer and our loop train the same pythae model,
a VAE of one hidden layer of 512 units.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

import bestiary
from bestiary.catalogue import CATALOGUE
from bestiary.data.splits import Batch
from bestiary.distributions.gaussian import gaussian_kl
from bestiary.models.adversarial.began import BEGAN
from bestiary.models.adversarial.gan import GAN
from bestiary.models.adversarial.unrolled_gan import UnrolledGAN
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from bestiary.models.autoregressive.pixelcnn import PixelCNN
from bestiary.models.autoregressive.pixelrnn import PixelRNN
from bestiary.models.autoregressive.transformer import Transformer
from bestiary.models.base import Clock, ClosedForm, Model, Move, Player, Step
from bestiary.models.latent.vae import VAE
from bestiary.runs.observers import Log
from bestiary.training.budget import parse_budget
from bestiary.training.flops import FlopCount
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def endless(loader):
    while True:
        yield from loader


# --- the loop that everybody writes -----------------------------------------------------------------


def codes(model, n):
    return 2 * torch.rand(n, model.latent_dim) - 1


def plain_penalty(model, x, fake):
    u = torch.rand(len(x), 1, 1, 1)
    other = fake if model.penalty == "gradient" else x + 0.5 * x.std() * torch.rand_like(x)
    x = (u * x + (1 - u) * other).requires_grad_()
    (slope,) = torch.autograd.grad(model.discriminator(x).sum(), x, create_graph=True)
    return model.penalty_weight * (slope.flatten(1).norm(dim=1) - 1).square().mean()


def plain_gan(model, batches):
    generator, discriminator, game = model.generator, model.discriminator, model.game
    by_generator, by_discriminator = (Adam(n.parameters(), lr=1e-3) for n in (generator, discriminator))
    while True:
        for _ in range(model.discriminator_updates):
            (x,) = next(batches)
            by_discriminator.zero_grad()
            fake = torch.sigmoid(generator(codes(model, len(x))))
            cost = game.discriminator_cost(real=discriminator(x), fake=discriminator(fake.detach()))
            if model.penalty != "none":
                cost = cost + plain_penalty(model, x, fake.detach())
            cost.backward()
            by_discriminator.step()
            if model.clip is not None:
                for p in discriminator.parameters():
                    p.data.clamp_(-model.clip, model.clip)
        by_generator.zero_grad()
        if isinstance(model, UnrolledGAN):  # the steps ahead are the model's own: what differs is the loop
            ahead = Step(len(x), Clock(), torch.Generator(), {"discriminator": by_discriminator}, Batch(x))
            model.generator_cost(ahead)["loss"].backward()
        else:
            game.generator_cost(fake=discriminator(fake)).backward()
        by_generator.step()
        yield


def plain_began(model, batches):
    autoencoder = [*model.encoder.parameters(), *model.decoder.parameters()]
    by_generator, by_autoencoder = (Adam(p, lr=1e-3) for p in (model.generator.parameters(), autoencoder))
    k = 0.0

    def copying(x):
        return (x - torch.sigmoid(model.decoder(model.encoder(x)))).abs().mean()

    while True:
        (x,) = next(batches)
        by_autoencoder.zero_grad()
        fake = torch.sigmoid(model.generator(codes(model, len(x))))
        real_loss = copying(x)
        (real_loss - k * copying(fake.detach())).backward()
        by_autoencoder.step()
        by_generator.zero_grad()
        fake_loss = copying(fake)
        fake_loss.backward()
        by_generator.step()
        k = min(max(k + model.balance_rate * (model.diversity_ratio * real_loss - fake_loss).item(), 0), 1)
        yield


def plain_vae(model, batches):
    optimizer = Adam(model.parameters(), lr=1e-3)
    while True:
        (x,) = next(batches)
        optimizer.zero_grad()
        mu, log_sigma = model.encoder(x).chunk(2, dim=1)
        z = mu + log_sigma.exp() * torch.randn_like(mu)
        loss = gaussian_kl(mu, log_sigma) - model.observation.log_prob(model.decoder(z), x)
        loss.mean().backward()
        optimizer.step()
        yield


def plain_own_cost(model, batches):
    optimizer = Adam(model.parameters(), lr=1e-3)
    (move,) = model.moves(Clock())
    random = torch.Generator().manual_seed(0)
    while True:
        (x,) = next(batches)
        optimizer.zero_grad()
        move.cost(Step(len(x), Clock(), random, {"model": optimizer}, Batch(x)))["loss"].backward()
        optimizer.step()
        yield


def plain_autoregressive(model, batches):
    optimizer = Adam(model.parameters(), lr=1e-3)
    while True:
        (x,) = next(batches)
        optimizer.zero_grad()
        target = (x * (model.spec.levels - 1)).round().long()
        F.cross_entropy(model.logits(x), target).backward()
        optimizer.step()
        yield


def plain_loop(model, images):
    loader = DataLoader(TensorDataset(images), batch_size=model.batch_size, shuffle=True, drop_last=True)
    if isinstance(model, GAN):
        loop = plain_gan
    elif isinstance(model, BEGAN):
        loop = plain_began
    elif type(model) is VAE:
        loop = plain_vae
    elif isinstance(model, (PixelCNN, GatedPixelCNN, PixelRNN)):
        loop = plain_autoregressive
    else:
        loop = plain_own_cost
    model.train()
    return partial(next, loop(model, endless(loader)))


# --- ours -------------------------------------------------------------------------------------------


def our_loop(model, data, precision, folder, *, compiled=False):
    runtime = replace(choose_runtime(model, precision=precision), compiled=compiled)
    training = Training(
        model,
        data.train,
        budget=parse_budget("1000000 rounds"),
        seed=0,
        runtime=runtime,
    )
    log = Log(Path(folder) / f"{id(model)}.jsonl", training.clock)

    def step():
        training.round()
        log(training)

    return step, training


def compare(ours, theirs, *, examples, updates, blocks):
    """Medians of examples per second on both sides, and of their ratio, over alternating blocks."""

    def block(step):
        return examples * updates / seconds(lambda: [step() for _ in range(updates)])

    for step in (ours, theirs):
        for _ in range(3):  # memory is allocated, kernels are chosen, FLOPs are counted
            step()
    rates = [(block(ours), block(theirs)) for _ in range(blocks)]
    ratios = sorted(a / b for a, b in rates)
    return {
        "ours": round(statistics.median(a for a, _ in rates), 1),
        "theirs": round(statistics.median(b for _, b in rates), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(ratios[0], 3),
        "ratio_high": round(ratios[-1], 3),
    }


def models_against_the_plain_loop(names, data, options, folder, peaks):
    images = torch.cat([batch.x for batch in data.train.batches(5000)])
    precisions = ["float32", "bfloat16"] if "bfloat16" in peaks else ["float32"]
    for name in names:
        family = CATALOGUE[name].load()
        if issubclass(family, (ClosedForm, Transformer)):  # the data here are images
            continue
        by = {"optimizer": "adam"} if issubclass(family, Autoregressive) else {}
        create = partial(bestiary.create, name, spec=data.spec, preset=options.preset, **by)
        ways = [
            (precision, False) for precision in precisions if precision == "float32" or create().bfloat16_safe
        ]
        if create().compiled:
            ways += [(precision, True) for precision, _ in ways]
        for precision, compiled in ways:
            step, training = our_loop(create(), data, precision, folder, compiled=compiled)
            plain = plain_loop(create(), images)
            # a round of a critic's five updates sees five batches
            size = training.model.batch_size * getattr(training.model, "discriminator_updates", 1)
            row = compare(step, plain, examples=size, updates=options.updates, blocks=options.blocks)
            flops = training.clock.flops / training.clock.examples * row["ours"]
            share = round(flops / peaks[precision], 3)
            yield {"model": name, "preset": options.preset, "against": "plain loop",
                   "precision": precision, "compiled": compiled,
                   "batch": training.model.batch_size, **row, "share_of_peak": share}  # fmt: skip


# --- pythae -----------------------------------------------------------------------------------------


class PythaeVAE(Model):
    """pythae's own VAE under our loop, so that nothing but the trainer differs."""

    def __init__(self, spec, *, batch_size: int = 64):
        super().__init__(spec, batch_size=batch_size)
        from pythae import models

        config = models.VAEConfig(input_dim=spec.shape, latent_dim=10, reconstruction_loss="bce")
        self.theirs = models.VAE(config)

    def players(self):
        return {"model": Player(list(self.parameters()), partial(Adam, lr=1e-4, fused=True))}

    def moves(self, clock):
        return [Move("model", self.cost)]

    def cost(self, step):
        return {"loss": self.theirs({"data": step.x}).loss}


def pythae_against_ours(data, options, folder):
    """Whole epochs of pythae's trainer against as many of our updates."""
    from pythae.data.datasets import DatasetOutput
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Images(torch.utils.data.Dataset):
        """The dataset of pythae's examples."""

        def __init__(self, x):
            self.x = x

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            return DatasetOutput(data=self.x[index])

    updates = 200
    model = PythaeVAE(data.spec)
    images = Images(data.train[: updates * model.batch_size].x)
    config = BaseTrainerConfig(
        output_dir=folder, num_epochs=1, per_device_train_batch_size=model.batch_size, no_cuda=True
    )
    trainer = BaseTrainer(model=PythaeVAE(data.spec).theirs, train_dataset=images, training_config=config)
    trainer.prepare_training()
    step, _ = our_loop(model, data, "float32", folder)
    row = compare(
        lambda: [step() for _ in range(updates)],
        lambda: trainer.train_step(epoch=1),
        examples=updates * model.batch_size,
        updates=1,
        blocks=options.blocks,
    )
    return {"model": "pythae's VAE (MLP)", "against": f"pythae {version('pythae')}", "precision": "float32",
            "batch": model.batch_size, **row}  # fmt: skip


# --- the machine ------------------------------------------------------------------------------------


def convolution_peaks():
    """The most floating-point operations a second that one large convolution reached, by number type."""
    types = {"float32": torch.float32}
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        types["bfloat16"] = torch.bfloat16
    peaks = {}
    for name, dtype in types.items():
        x, w = torch.rand(64, 128, 28, 28, dtype=dtype), torch.rand(128, 128, 3, 3, dtype=dtype)
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
        with torch.no_grad(), FlopCount() as count:
            F.conv2d(x, w, padding=1)
            flops = count.total
        with torch.no_grad():
            peaks[name] = flops / min(seconds(lambda x=x, w=w: F.conv2d(x, w, padding=1)) for _ in range(20))
    return peaks


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(CATALOGUE))
    parser.add_argument("--preset", choices=["paper", "laptop"], default="laptop")
    parser.add_argument("--pythae", action="store_true", help="compare with pythae too")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--updates", type=int, default=20, help="rounds in a block")
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = bestiary.load_data(options.data)
    peaks = convolution_peaks()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in models_against_the_plain_loop(options.models, data, options, folder, peaks):
            rows.append(row)
            print(json.dumps(row), flush=True)
        if options.pythae:
            rows.append(pythae_against_ours(data, options, folder))
            print(json.dumps(rows[-1]), flush=True)
    try:
        package = version("bestiary")
    except PackageNotFoundError:
        package = "source tree"
    report = {
        "command": f"python {' '.join(sys.argv)}",
        "date": date.today().isoformat(),
        "versions": {"bestiary": package, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "peak_gflops": {name: round(peak / 1e9, 1) for name, peak in peaks.items()},
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
