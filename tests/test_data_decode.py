"""One image file to levels: modes, orientation, transparency, depth."""

import numpy as np
import pytest
from PIL import Image

from bestiary.data.decode import UnreadableError, decode, look, quiet
from pictures import noise


def save(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_resize_stretches_and_crop_cuts_the_middle(tmp_path):
    k = np.zeros((20, 60), np.uint8)
    k[:, :20], k[:, 40:] = 100, 200  # the middle square is black
    path = save(tmp_path, Image.fromarray(k))
    cropped = decode(path, channels=1, size=10, fit="crop")
    assert cropped.shape == (1, 10, 10)
    assert cropped[:, :, 1:-1].max() <= 1  # the filter reaches over the edge by a pixel
    stretched = decode(path, channels=1, size=30, fit="resize")[0]
    assert stretched[15, [2, 15, 27]].tolist() == [100, 0, 200]


def test_large_photographs_are_averaged_not_sampled(tmp_path):
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    path = save(tmp_path, Image.fromarray(stripes), "x.jpg", quality=95)
    k = decode(path, channels=1, size=16, fit="resize").astype(int)
    assert abs(k - 128).max() <= 4


def test_a_camera_on_its_side(tmp_path):
    k = np.zeros((4, 8), np.uint8)
    k[:, :4] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    path = save(tmp_path, Image.fromarray(k), exif=exif)
    turned = decode(path, channels=1, size=None, fit="resize")[0]
    assert turned.shape == (8, 4)
    assert turned[:4].min() == 255
    assert turned[4:].max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 2, 4))
    image.putpixel((3, 3), (0, 0, 0, 128))
    path = save(tmp_path, image.convert(mode))
    with quiet():
        k = decode(path, channels=3, size=None, fit="resize").transpose(1, 2, 0)
    assert k[0, 0].tolist() == ([76] * 3 if mode == "LA" else [255, 0, 0])
    assert k[0, 2].tolist() == [255, 255, 255]
    if mode != "P":
        assert k[3, 3].tolist() == [127, 127, 127]


def test_grey_with_a_transparent_level(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[7, 9]], np.uint8)), transparency=7)
    assert decode(path, channels=1, size=None, fit="resize").tolist() == [[[255, 9]]]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    k = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    path = save(tmp_path, Image.fromarray(k), name)
    assert decode(path, channels=1, size=None, fit="resize").tolist() == [[[0, 0, 1, 128, 255]]]
    assert look(path)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_unknown_range_are_refused(tmp_path, mode):
    path = save(tmp_path, Image.new(mode, (4, 4)), "x.tif")
    with pytest.raises(UnreadableError, match="unknown range"):
        decode(path, channels=1, size=None, fit="resize")


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("x.jpg", "CMYK", 8),
        ("x.gif", "P", 0),
        ("x.png", "P", 0),
        ("x.webp", "RGB", 12),
        ("x.tif", "CMYK", 1),
    ],
)
def test_colour_survives_its_mode(tmp_path, name, mode, tolerance):
    path = save(tmp_path, Image.new("RGB", (16, 16), (255, 0, 51)).convert(mode), name)
    k = decode(path, channels=3, size=None, fit="resize").astype(int)
    assert abs(k[:, 8, 8] - [255, 0, 51]).max() <= tolerance


def test_black_and_white(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[True, False]])))
    assert look(path)
    assert decode(path, channels=1, size=None, fit="resize").tolist() == [[[255, 0]]]


def test_damaged_camera_notes_are_no_reason_to_lose_a_picture(tmp_path):
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01\x03\x00"
    path = save(tmp_path, noise(0, 8, 8, 3), "x.jpg", exif=exif)
    with quiet():
        assert decode(path, channels=3, size=None, fit="resize").shape == (3, 8, 8)
