"""Patterns of files: the order of their names, and no shard missing without a word."""

from __future__ import annotations

import pytest

from ftjax.data.sources.shards import is_pattern, shards
from ftjax.errors import DataError


@pytest.fixture
def files(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        return tmp_path

    return make


def names(pattern) -> list[str]:
    return [file.name for file in shards(str(pattern))]


def test_braces_count_with_their_digits_and_list(files):
    root = files("p-008.tar", "p-009.tar", "p-010.tar", "p-a.tar", "q-008.tar")
    assert names(root / "p-{008..010}.tar") == ["p-008.tar", "p-009.tar", "p-010.tar"]
    assert names(root / "p-{a,009}.tar") == ["p-009.tar", "p-a.tar"]
    assert names(root / "p-{008,009..010}.tar") == ["p-008.tar", "p-009.tar", "p-010.tar"]
    assert names(root / "{p,q}-{008..008}.tar") == ["p-008.tar", "q-008.tar"]
    assert names(root / "p-{008..009}.*") == ["p-008.tar", "p-009.tar"]


def test_a_glob_is_in_the_order_of_names_with_numbers_as_numbers(files):
    root = files("part-2.csv", "part-10.csv", *(f"part-{number}.csv" for number in (1, 3, 4, 5, 6, 7, 8, 9)))
    assert names(root / "part-*.csv") == [f"part-{number}.csv" for number in range(1, 11)]


@pytest.mark.parametrize(
    ("present", "pattern", "message"),
    [
        (("p-0.tar", "p-2.tar"), "p-{0..3}.tar", "data.path=ROOT/p-{0..3}.tar: 2 of 4 shards are not there: p-1.tar, p-3.tar; fetch them, or name the ones"),
        (("p-00.tar", "p-01.tar", "p-03.tar"), "*.tar", "data.path=ROOT/*.tar: the shard p-02.tar is missing; fetch it, or name the ones that count by braces"),
        (("train-00000-of-00003.parquet", "train-00001-of-00003.parquet"), "train-*", "the shard train-00002-of-00003.parquet is missing"),
        (("t-1-of-2.csv",), "t-*", "the shard t-0-of-2.csv is missing"),
        (("a.csv",), "b*.csv", "data.path=ROOT/b*.csv: no file is called so; ROOT holds a.csv"),
        (("a/1.csv",), "b/*.csv", "data.path=ROOT/b does not exist; in ROOT there is no 'b': allowed: 'a'"),
        (("a.csv",), "{3..1}.csv", "data.path=ROOT/{3..1}.csv: {3..1} must count upwards"),
        (("a.csv",), "{0..99}{0..99}{0..99}.csv", "stands for more than 100,000 files"),
        (("part-0.csv",), "prt-{0..1}.csv", "there is no 'prt-0.csv': did you mean 'part-0.csv'?"),
    ],
)
def test_what_is_missing_is_named(files, present, pattern, message):
    root = files(*present)
    with pytest.raises(DataError) as error:
        shards(str(root / pattern))
    assert message in str(error.value).replace(str(root), "ROOT")


def test_names_without_numbers_or_of_several_kinds_are_no_sequence(files):
    root = files("a.csv", "b-7.csv", "train-0.csv", "train-1.csv", "test-0.csv")
    assert len(names(root / "*.csv")) == 5
    assert not is_pattern(str(root / "a.csv"))
    assert not is_pattern(str(files("odd[1].csv") / "odd[1].csv"))
