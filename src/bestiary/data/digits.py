"""The 1,797 digits that come with scikit-learn."""

import numpy as np
from sklearn.datasets import load_digits

from bestiary.data.images import Conditioning, labelled_images
from bestiary.data.part import Only
from bestiary.data.splits import Binarise, Data


def digits(*, binarise: Binarise = "none", condition: Conditioning = "none", only: Only = None) -> Data:
    """Handwritten digits, 8×8, levels k = 0 … 16: 1,197 / 300 / 300.

    The files are in the order of their writers, so the splits are cut from one fixed random order; with
    300 images a split holds 24 to 36 of each class.

    Arguments:
        binarise: "fixed" draws each pixel from Bernoulli(k/16) once and for all, "dynamic" afresh each
            time an example is drawn for training; both make the spec binary.
        condition: "classes" gives models the label.
        only: a class or several, by name or number, of which all three splits then consist, numbered anew
            from 0; none for all.
    """
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.uint8).reshape(-1, 1, 8, 8)
    order = np.argsort(np.random.default_rng(0).random(len(images)), kind="stable")
    parts = [(images[rows], labels[rows]) for rows in np.split(order, [1197, 1497])]
    classes = tuple("0123456789")
    return labelled_images(
        "digits", parts, levels=17, classes=classes, binarise=binarise, condition=condition, only=only
    )
