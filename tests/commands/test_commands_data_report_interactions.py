"""`ftjax data report` on a log: guessed by its columns, on the terminal, as a page and as findings.json."""

from __future__ import annotations

import json

import pytest

from ftjax.data.guess import guess_source
from ftjax.main import main


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "ratings.csv"
    rows = [f"{user},{(user * 3 + place) % 9},{place % 5},{10**9 + 100 * place}" for user in range(8) for place in range(6)]
    path.write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n0,1,5,-3\n")
    return path


def test_a_log_is_read_cleaned_and_split_and_its_page_says_what_was_found(log, tmp_path, capsys):
    assert main(["data", "report", str(log), "--output", str(tmp_path / "page.html"), "--config.recommendation.user_core=3"]) == 0
    told = capsys.readouterr()
    said = told.out + told.err
    assert "source: interactions (guessed: it has columns of users and items)" in said
    assert "1 event was unreadable and skipped" in said
    found = json.loads((tmp_path / "findings.json").read_text())
    assert found["interactions"]["events"] == 48
    assert found["rejected"][0]["why"] == "its time -3 is negative: times are counted from 1970"
    page = (tmp_path / "page.html").read_text()
    assert "8 users, 9 items and 48 events" in page
    assert "its time -3 is negative" in page
    assert not (tmp_path / "drop.txt").exists()


def test_features_of_a_log_are_refused(log, tmp_path, capsys):
    assert main(["data", "report", str(log), "--output", str(tmp_path / "page.html"), "--pretrained", "builtin:digits"]) == 2
    assert "a log of interactions has none: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("log.csv", "user_id,item_id,timestamp\n1,2,3\n", "interactions"),
        ("x.inter", "user_id:token\titem_id:token\trating:float\n1\t2\t3\n", "interactions"),
        ("ratings.dat", "1::2::3::4\n1::3::3::5\n", "interactions"),
        ("u.data", "1\t2\t3\t881250949\n1\t5\t3\t881250950\n", "interactions"),
        ("pairs.txt", "1 5\n1 7\n2 7\n", "interactions"),
        ("reviews.csv", "user_id,product_id,text,rating\n1,2,good,3\n", "table"),
        ("sms.tsv", "label\ttext\nham\thello you\n", "table"),
        ("scores.csv", "text,score\nab,3\n", "table"),
    ],
)
def test_logs_are_told_from_tables_of_texts(tmp_path, name, text, source):
    (tmp_path / name).write_text(text)
    assert guess_source(str(tmp_path / name))[0] == source
