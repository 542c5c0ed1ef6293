"""The words: what is a word, how it is written as symbols, and that no word is in two splits."""

import pytest
import torch

from bestiary.data import load_data
from bestiary.data.datasets import DATASETS
from bestiary.data.specs import SequenceSpec, spec_from_dict, spec_to_dict
from bestiary.data.words import INSTALLED, SYMBOLS
from bestiary.errors import DataError, OptionError

GOOD = [
    *(
        "a",
        "bee",
        "zebra",
        "tonsuring",
        "fearlessness",
        "abcdefghijklmnopqrst",
        "orators",
        "sternly",
        "words",
    ),
    *("surf", "harvester", "cow", "dog", "eel", "fox", "gnu", "hen", "imp", "jay", "koi"),
]
BAD = ["Anna", "can't", "naïve", "abcdefghijklmnopqrstu", "x-ray", "", "word2vec"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "list"
    path.write_text("\n".join([*GOOD, *BAD, *GOOD[:5]]) + "\n", encoding="utf-8")
    return path


def test_words_are_lower_case_letters_and_each_is_in_one_split(file):
    data = load_data("words", path=file)
    parts = [data.spec.texts(split[:].x) for split in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(word for part in parts for word in part) == sorted(GOOD)
    assert parts[0] != sorted(parts[0])


def test_a_word_is_its_letters_and_ends_until_the_sequence_is_full(file):
    data = load_data("words", path=file)
    x = data.train[:].x
    assert data.spec == SequenceSpec(21, 27, symbols="\nabcdefghijklmnopqrstuvwxyz")
    assert (x.dtype, x.shape) == (torch.int64, (16, 21))
    for row, text in zip(x.tolist(), data.spec.texts(x), strict=True):
        letters = [ord(letter) - ord("a") + 1 for letter in text]
        assert row == letters + [0] * (21 - len(letters))
    assert (x[:, -1] == 0).all()  # the longest has an end too


def test_splits_depend_on_the_words_and_not_on_the_file(file, tmp_path):
    data = load_data("words", path=file)
    other = tmp_path / "other"
    other.write_text("\r\n".join(reversed(GOOD)), encoding="utf-8")
    again = load_data("words", path=other)
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.train[:].x, data.train[:].x)
    other.write_text("\n".join([*GOOD, "one"]), encoding="utf-8")
    assert load_data("words", path=other).fingerprint != data.fingerprint
    assert load_data(data.source, **data.options).fingerprint == data.fingerprint


def test_without_a_list_one_is_told_how_to_get_it(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere' \(No such file or directory\), wanted `apt-get install wame"
    ):
        load_data("words", path=tmp_path / "nowhere")
    few = tmp_path / "few"
    few.write_text("only\nfour\nwords\nhere\nNo Names\n")
    with pytest.raises(DataError, match=r"path: found 4 words in .*few', wanted at least 10"):
        load_data("words", path=few)


@pytest.mark.skipif(not INSTALLED.exists(), reason="the word list (apt-get install wamerican) is not here")
def test_the_debian_list_has_the_sizes_of_the_table():
    data = load_data("words")
    row = DATASETS["words"]
    assert data.spec.shape == row.shape
    parts = [set(data.spec.texts(split[:].x)) for split in (data.train, data.validation, data.test)]
    assert tuple(map(len, parts)) == row.sizes
    assert len(set.union(*parts)) == sum(row.sizes)
    assert data.fingerprint[:12] == "01612d7040f0"  # the split is part of what published numbers mean


def test_texts_end_at_the_first_newline_or_are_numbers():
    x = torch.tensor([[3, 1, 20, 0, 0], [0, 1, 0, 2, 0], [26, 26, 26, 26, 26]])
    assert SequenceSpec(5, 27, symbols=SYMBOLS).texts(x) == ["cat", "", "zzzzz"]
    assert SequenceSpec(5, 27).texts(x[:1]) == ["3 1 20 0 0"]
    spec = SequenceSpec(5, 27, symbols=SYMBOLS)
    assert spec_from_dict(spec_to_dict(spec)) == spec
    with pytest.raises(OptionError, match="symbols: found 2, wanted one for each of the 27 values"):
        SequenceSpec(5, 27, symbols="ab")
