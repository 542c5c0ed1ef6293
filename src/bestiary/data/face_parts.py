"""Cartoon faces put together from drawn parts, a layer for each, painted over one another.

The parts are the vector drawings that the package python-avatars carries, which is never imported. Each is
drawn once, by resvg, when the first face is wanted; faces are then composed of them in whole numbers, in a
small part of the time that drawing each anew would take.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bestiary.data.factors import Levels, Values
from bestiary.errors import DataError

SIDE = 64
VERSIONS = {"python-avatars": "1.4.1", "resvg-py": "0.5.0"}
WINDOW = (30, 20, 204)  # left, top and side on the package's canvas of 264 × 280: head, hair and shoulders

HAIR_COLOURS = {
    "auburn": "#A55728", "black": "#2C1B18", "blonde": "#B58143", "golden": "#D6B370", "brown": "#724133",
    "dark_brown": "#4A312C", "pink": "#F59797", "platinum": "#ECDCBF", "red": "#C93305", "grey": "#E8E1E1",
}  # fmt: skip
SKINS = {
    "tanned": "#FD9841", "yellow": "#F8D25C", "pale": "#FFDBB4", "light": "#EDB98A", "brown": "#D08B5B",
    "dark_brown": "#AE5D29", "black": "#614335",
}  # fmt: skip
CLOTHES_COLOURS = {
    "black": "#262E33", "sky_blue": "#65C9FF", "blue": "#5199E4", "dark_blue": "#25557C",
    "light_grey": "#E6E6E6", "grey": "#929598", "slate": "#3C4F5C", "pale_blue": "#B1E2FF",
    "pale_green": "#A7FFC4", "pale_orange": "#FFDEB5", "pale_yellow": "#FFFFB1", "pink": "#FF488E",
    "red": "#FF5C5C", "white": "#FFFFFF",
}  # fmt: skip
# Names of values: colours, "none", or the files of the parts without their ending. Of the package's parts
# those are left out on which a label would not be true of the image: hair without its colour (a bald head, a
# hat, a helmet) or too little of it, hair over an eye or over the clothes, an eye patch among the glasses,
# clothes that hide their colour or have writing on them, and one hair that is drawn like another.
VALUES: dict[str, tuple[str, ...]] = {
    "hair": (
        "big_hair", "bob", "braids", "bride", "bun", "buzzcut", "caesar", "cornrows", "curly", "curvy",
        "dreadlocks", "einstein_hair", "elvis", "evil_spike", "frida", "frizzle", "fro", "fro_band",
        "long_not_too_long", "mia_wallace", "mohawk", "mowgli", "pixie", "pompadour", "quiff", "shaggy",
        "shaggy_mullet", "short_curly", "short_dreads_1", "short_dreads_2", "short_flat", "short_round",
        "short_waved", "straight_1", "straight_strand", "twist_long_hair", "twist_long_hair_2", "wild",
    ),
    "hair_colour": tuple(HAIR_COLOURS),
    "skin": tuple(SKINS),
    "eyes": (
        "closed", "cry", "default", "eye_roll", "happy", "heart", "side", "squint", "surprised", "wink",
        "wink_wacky", "x_dizzy",
    ),
    "eyebrows": (
        "none", "angry", "angry_natural", "default", "default_natural", "flat_natural", "frown_natural",
        "raised_excited", "raised_excited_natural", "sad_concerned", "sad_concerned_natural",
        "unibrow_natural", "up_down", "up_down_natural",
    ),
    "mouth": (
        "big_smile", "concerned", "default", "disbelief", "eating", "grimace", "sad", "scream_open",
        "serious", "smile", "tongue", "twinkle", "vomit",
    ),
    "nose": ("default", "small", "wide"),
    "beard": (
        "none", "beard_light", "beard_magestic", "beard_medium", "einstien_mustache", "moustache_fancy",
        "moustache_magnum", "wick_beard",
    ),
    "glasses": (
        "none", "kurt", "prescription_01", "prescription_02", "round", "sunglasses", "sunglasses_2",
        "wayfarers", "wayfarers_2",
    ),
    "clothes": (
        "blazer_shirt", "chef", "collar_sweater", "gladiator", "hoodie", "jedi_robe", "overall",
        "shirt_crew_neck", "shirt_v_neck",
    ),
    "clothes_colour": tuple(CLOTHES_COLOURS),
}  # fmt: skip
NAMES = tuple(VALUES)
SIZES = tuple(map(len, VALUES.values()))

_CHUNK = 64  # faces that are composed at a time, few enough to stay in the processor's cache
_SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Layer:
    """One part of the face in all its drawings, cut to the rectangle that any of them touches.

    Attributes:
        factors: the one or two factors that decide which drawing it is, as their numbers.
        rectangle: rows and columns of the image.
        colour: premultiplied by alpha, uint8, (sizes of the factors, 3, h, w).
        alpha: uint8, (sizes of the factors, 1, h, w).
    """

    factors: tuple[int, ...]
    rectangle: tuple[slice, slice]
    colour: Levels
    alpha: Levels


def compose(values: Values) -> Levels:
    """Faces with the given values of the factors, (n, 11), as levels 0 to 255, (n, 3, 64, 64).

    On white, each layer goes over those before it: c + (1 − α)·image, rounded to a level.

    Raises:
        DataError: a package that is missing or of another version.
    """
    drawn = layers()
    images = np.empty((len(values), 3, SIDE, SIDE), dtype=np.uint8)
    for start in range(0, len(values), _CHUNK):
        some = values[start : start + _CHUNK]
        canvas = np.full((len(some), 3, SIDE, SIDE), 255, dtype=np.uint16)
        for layer in drawn:
            which = tuple(some[:, k] for k in layer.factors)
            under = canvas[:, :, *layer.rectangle]
            under *= 255 - layer.alpha[which]
            under += 127
            under //= 255
            under += layer.colour[which]
        images[start : start + _CHUNK] = canvas
    return images


@cache
def layers() -> tuple[Layer, ...]:
    """All layers, the hindmost first.

    Raises:
        DataError: a package that is missing or of another version.
    """
    folder = _installed()

    def plain(factor: str, files: str, place: str) -> Layer:
        return _layer((factor,), [_part(folder, files, name, place) for name in VALUES[factor]])

    def coloured(
        factor: str, files: str, place: str, filled: str, by: str, colours: Mapping[str, str]
    ) -> Layer:
        drawings = product(VALUES[factor], colours.values())
        return _layer((factor, by), [_part(folder, files, name, place, {filled: c}) for name, c in drawings])

    return (
        _layer(("skin",), [_body(folder, colour) for colour in SKINS.values()]),
        coloured("clothes", "clothes", "Clothing", "Fabric-Color", "clothes_colour", CLOTHES_COLOURS),
        plain("mouth", "mouth", "Mouth"),
        plain("nose", "nose", "Nose"),
        plain("eyes", "eyes", "Eyes"),
        plain("eyebrows", "eyebrows", "Eyebrow"),
        coloured("beard", "facial_hair", "Facial-Hair", "Facial-Hair-Color", "hair_colour", HAIR_COLOURS),
        coloured("hair", "top/hair", "Top", "Hair-Color", "hair_colour", HAIR_COLOURS),
        plain("glasses", "accessories", "Accessory"),
    )


def _layer(factors: tuple[str, ...], drawings: Sequence[Levels]) -> Layer:
    """The layer of drawings (64, 64, 4), red, green, blue and alpha, in the order of the factors' values."""
    everything = np.moveaxis(np.stack(drawings), 3, 1).astype(np.uint16)
    alpha = everything[:, 3:]
    colour = (everything[:, :3] * alpha + 127) // 255
    touched: NDArray[np.bool_] = alpha.max(axis=(0, 1)) > 0
    rows, columns = (np.flatnonzero(touched.any(axis=axis)) for axis in (1, 0))
    rectangle = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    numbers = tuple(map(NAMES.index, factors))

    def cut(channels: NDArray[np.uint16]) -> Levels:
        inside = channels[:, :, *rectangle].astype(np.uint8)
        return inside.reshape(*(SIZES[k] for k in numbers), *inside.shape[1:])

    return Layer(numbers, rectangle, cut(colour), cut(alpha))


def _body(folder: Path, colour: str) -> Levels:
    """The head, neck and shoulders."""
    template = _template(folder)
    _named(template, "Skin-Color").set("fill", colour)
    return _rasterised(template)


def _part(folder: Path, files: str, name: str, place: str, fills: Mapping[str, str] | None = None) -> Levels:
    """A part alone, at its place in the template; `fills` are colours of elements of the part."""
    if name == "none":
        return np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    template = _template(folder)
    _named(template, "Avataaar/Default").remove(_named(template, "Body"))
    for definitions in template.findall(f"{_SVG}defs"):
        template.remove(definitions)  # of the body; those of the part have the same names
    part = _parsed(folder, f"{files}/{name}")
    for element, colour in (fills or {}).items():
        _named(part, element).set("fill", colour)
    _named(template, place).extend(part)
    return _rasterised(template)


def _template(folder: Path) -> ElementTree.Element:
    """The body with places for all parts; those of beard and glasses come with the hair, here a bald head."""
    template = _parsed(folder, "styles/transparent")
    _named(template, "Top").extend(_parsed(folder, "top/hair/no_hair"))
    left, top, side = WINDOW
    for attribute, value in (("viewBox", f"{left} {top} {side} {side}"), ("width", side), ("height", side)):
        template.set(attribute, str(value))
    return template


def _parsed(folder: Path, file: str) -> ElementTree.Element:
    return ElementTree.parse(folder / f"{file}.svg").getroot()


def _named(root: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(element for element in root.iter() if element.get("id") == name)


def _rasterised(drawing: ElementTree.Element) -> Levels:
    """Red, green, blue and alpha, (64, 64, 4)."""
    # Imported only here because only who draws faces needs it.
    from resvg_py import svg_to_bytes

    text = ElementTree.tostring(drawing, encoding="unicode")
    png = svg_to_bytes(svg_string=text, width=SIDE, height=SIDE, skip_system_fonts=True)
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))


def _installed() -> Path:
    """The folder of the parts, once both packages are found to be there."""
    for package, wanted in VERSIONS.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != wanted:
            install = " ".join(f"{name}=={version}" for name, version in VERSIONS.items())
            raise DataError(
                f"faces: found {package} {found}, wanted {wanted}, which the faces are drawn with: "
                f"`pip install --no-deps {install}`"
            )
    spec = importlib.util.find_spec("python_avatars")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "avatar_parts"
