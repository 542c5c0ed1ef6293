"""One image file to one array of levels, whatever its mode, orientation and transparency."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64_000_000  # 256 MB once decoded: more is a mistake or a decompression bomb
_EXTENSIONS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2",),
    "AVIF": (".avif",),
}
EXTENSIONS = tuple(extension for some in _EXTENSIONS.values() for extension in some)
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")

Fit = Literal["resize", "crop"]


class UnreadableError(Exception):
    """Why a file is left out, in a few words."""


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back Pillow's warnings: what matters in them is told by `look` and `decode`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def look(path: Path) -> bool:
    """Whether the file is a grey image; reads its header alone.

    Raises:
        UnreadableError: it is no image, cannot be opened, or is larger than `MAX_PIXELS`.
    """
    with _reasons(), _opened(path) as image:
        return image.mode in _GREY_MODES


def decode(path: Path, *, channels: Literal["auto", 1, 3], size: int | None, fit: Fit) -> NDArray[np.uint8]:
    """The levels of an image, shape (channels, H, W).

    The orientation that a camera noted is applied, transparency is put on white, of an animation the
    first frame is taken, and 16-bit grey is brought to 8.

    Arguments:
        channels: 1 for grey (ITU-R 601 luma of a coloured image), 3 for RGB, "auto" for what the file has.
        size: height and width; None keeps the image's own.
        fit: "resize" stretches to the square, "crop" cuts the largest square from the middle.

    Raises:
        UnreadableError: it is no image, damaged, truncated, too large, or has pixels of unknown range.
    """
    with _reasons(), _opened(path) as image:
        grey = channels == 1 or (channels == "auto" and image.mode in _GREY_MODES)
        if size is not None:
            image.draft(None, (3 * size, 3 * size))  # JPEG: decode at 1/2, 1/4 or 1/8, far above the target
        upright = ImageOps.exif_transpose(image)
        plain = _plain(upright, image.format or "", "L" if grey else "RGB")
        if size is not None and fit == "crop":
            plain = ImageOps.fit(plain, (size, size), method=Image.Resampling.LANCZOS)
        elif size is not None:
            plain = plain.resize((size, size), Image.Resampling.LANCZOS)
        levels = np.asarray(plain)
    return levels[None] if grey else np.ascontiguousarray(levels.transpose(2, 0, 1))


def _opened(path: Path) -> Image.Image:
    Image.init()
    # Named, because Pillow also has readers that nobody means by "image", such as PostScript's.
    image = Image.open(path, formats=[name for name in _EXTENSIONS if name in Image.OPEN])
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise UnreadableError(_too_large(f"{width}×{height}"))
    return image


def _plain(image: Image.Image, kind: str, mode: Literal["L", "RGB"]) -> Image.Image:
    if image.mode == "F" or (image.mode == "I" and kind not in ("PNG", "PPM")):
        raise UnreadableError("has pixels of unknown range, wanted 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # Pillow's own conversion clips at 255
        grey = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.rint(grey).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white.convert("RGB")
    return image.convert(mode)


def _too_large(found: str) -> str:
    return f"has {found} pixels, wanted at most {MAX_PIXELS // 1_000_000} million"


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except UnreadableError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError(_too_large("far too many")) from error
    except UnidentifiedImageError as error:
        raise UnreadableError("is no image of a known format") from error
    except PermissionError as error:
        raise UnreadableError("cannot be opened: permission denied") from error
    except Exception as error:  # a damaged file makes a decoder raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"is truncated or damaged ({reason[:100]})") from error
