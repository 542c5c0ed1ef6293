"""`only`: the examples of some classes, in all three splits."""

import pytest
import torch

from bestiary import config
from bestiary.data import Classes, load_data
from bestiary.data.datasets import DATASETS
from bestiary.data.load import loader_of
from bestiary.data.part import Part, class_numbers
from bestiary.errors import DataError, OptionError
from pictures import fill


def test_a_class_whose_name_is_a_number_with_zeros_is_that_class():
    assert config.parse_assignments(["only=01"]) == {"only": "01"}
    assert class_numbers("01", ["00", "01", "02"]) == [1]
    assert class_numbers("01", ["01", "02", "03"]) == [0]
    with pytest.raises(OptionError, match="only: found no, off or false, which YAML takes for a truth value"):
        class_numbers(config.parse_assignments(["only=no"])["only"], ["no", "yes"])
    assert class_numbers(config.parse_assignments(["only='no'"])["only"], ["yes", "no"]) == [1]


@pytest.mark.parametrize("only", [3, "3", [3]])
def test_one_class_in_every_split(only):
    whole, part = load_data("digits"), load_data("digits", only=only)
    for name in ("train", "validation", "test"):
        every, some = getattr(whole, name), getattr(part, name)
        assert torch.equal(some[:].x, every[every.labels == 3].x)
        assert not some.labels.any()
        assert len(some) == len(some.labels) > 20
    assert (part.name, part.classes, part.spec) == ("digits[3]", None, whole.spec)
    assert part.fingerprint != whole.fingerprint
    again = load_data(part.source, **part.options)
    assert (again.fingerprint, again.options) == (part.fingerprint, part.options)


def test_several_classes_are_numbered_anew_in_the_datas_order():
    whole, part = load_data("digits"), load_data("digits", only=[7, 2, 7], condition="classes")
    assert (part.classes, part.spec.condition) == (("2", "7"), Classes(2))
    kept = torch.isin(whole.test.labels, torch.tensor([2, 7]))
    assert torch.equal(part.test.labels, (whole.test.labels[kept] == 7).long())
    batch = part.test[[4, 0, -1]]
    assert torch.equal(batch.x, whole.test[kept].x[[4, 0, -1]])
    assert torch.equal(batch.condition, part.test.labels[[4, 0, -1]])


def test_binary_images_are_those_of_the_whole():
    whole, part = load_data("digits-dynamic"), load_data("digits-dynamic", only=5)
    assert torch.equal(part.test[:].x, whole.test[whole.test.labels == 5].x)
    drawn = [
        part.train.take(torch.arange(9), generator=torch.Generator().manual_seed(s)).x for s in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert part.name == "digits[5]-dynamic"


def test_whole_data_are_the_same_as_before_there_were_parts():
    data = load_data("digits", only=None)
    assert "only" not in data.options
    assert data.fingerprint == load_data("digits").fingerprint


def test_the_loaders_of_labelled_images_have_it():
    having = {row.name for row in DATASETS.values() if "only" in config.options(loader_of(row))}
    assert having == {"digits", "mnist", "fashion-mnist", "folder"}


def test_folders_by_the_names_of_their_sub_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("BESTIARY_CACHE", str(tmp_path / "cache"))
    fill(tmp_path / "photos" / "cats", 20)
    fill(tmp_path / "photos" / "1", 20, first=20)
    whole = load_data(tmp_path / "photos")
    assert whole.classes == ("1", "cats")
    for only, label in (("cats", 1), (1, 0), (0, 0)):  # a name goes before a number
        part = load_data(tmp_path / "photos", only=only)
        assert torch.equal(part.train[:].x, whole.train[whole.train.labels == label].x)
    fill(tmp_path / "plain", 6)
    with pytest.raises(DataError, match="only: found 0, but folder:plain has no classes"):
        load_data(tmp_path / "plain", only=0)
    fill(tmp_path / "few" / "a", 1)
    fill(tmp_path / "few" / "b", 9, first=1)
    with pytest.raises(DataError, match="only: folder:few has no example of a for its"):
        load_data(tmp_path / "few", only="a")


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (10, r"unknown class '10': .*\(or a number from 0 to 9\)"),
        (-1, "unknown class '-1'"),
        ("thre", "unknown class 'thre'"),
        ([], "only: found no class, wanted at least one of 0, 1"),
        (2.5, "only: found 2.5, wanted a whole number or text or a list of whole numbers or text or none"),
    ],
)
def test_mistakes(only, message):
    with pytest.raises(OptionError, match=message):
        load_data("digits", only=only)


def test_a_split_without_labels_has_no_parts():
    with pytest.raises(DataError, match="split: found one without labels"):
        Part(load_data("ring").test, [0])
