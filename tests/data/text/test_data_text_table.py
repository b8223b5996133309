"""Files as tables: encoding, delimiter, header and quotes are found out or named with their line."""

from __future__ import annotations

import re

import pyarrow
import pyarrow.parquet
import pytest
from text_files import jsonl, write

from ftjax.config import TextConfig
from ftjax.data.text import columnar, encodings
from ftjax.data.text.table import read_table
from ftjax.errors import ConfigError, DataError


def _read(path, content=None, **config):
    if content is not None:
        write(path, content)
    return read_table(path, TextConfig(**config))


def _refused(message, path, content, kind=DataError, **config):
    write(path, content)
    with pytest.raises(kind, match=f"^{re.escape(str(path))}{message}$" if kind is DataError else message):
        read_table(path, TextConfig(**config))


def test_a_csv_with_quotes_commas_and_line_breaks(tmp_path):
    found = _read(tmp_path / "a.csv", 'text,label\n"a, b",1\n"two\nlines ""quoted""",2\r\nlast,3\n')
    assert found.columns == ("text", "label")
    assert [list(row) for row in found.rows] == [["a, b", "1"], ['two\nlines "quoted"', "2"], ["last", "3"]]
    assert list(found.lines) == [2, 3, 5]
    assert found.facts == {"format": "csv", "delimiter": ",", "header": True, "encoding": "utf-8"}


@pytest.mark.parametrize(
    ("name", "content", "delimiter", "header", "columns"),
    [
        ("a.csv", "text;label\nx, y;1\nz;2\n", ";", True, ("text", "label")),
        ("a.csv", "text|label\nx|1\n", "|", True, ("text", "label")),
        ("a.csv", "text\tlabel\nx, y\t1\n", "\t", True, ("text", "label")),
        ("a.tsv", "ham\thello there\nspam\twin now\nham\tok\n", "\t", False, ("0", "1")),
        ("a.tsv", "feedback\tscore_of_it\nx y\t1\nz y\t2\nw w\t3\n", "\t", True, ("feedback", "score_of_it")),
        ("a.txt", "pair_ID\tsentence_A\n1\tx\n", "\t", True, ("pair_ID", "sentence_A")),
        ("a.txt", "Hello, world\nOne, two\n", None, False, ("0",)),
        ("a.csv", "text\nHello, world\nOne, two, three\n", None, True, ("text",)),
    ],
)
def test_delimiter_and_header_are_found_out(tmp_path, name, content, delimiter, header, columns):
    found = _read(tmp_path / name, content)
    assert (found.facts["delimiter"], found.facts["header"], found.columns) == (delimiter, header, columns)
    assert not found.rejected


@pytest.mark.parametrize(
    ("first", "row", "header"),
    [
        ("Ticket Subject,Ticket Type", "Printer does not print {0},hardware", True),
        ("Beschreibung des Falls;zuständig", "Der Drucker {0} druckt nicht;IT", True),
        ("Review of it,How many", "a fine film {0},{1}", True),
        ("a fine film,good", "another film {0},good", False),
        ("so so,never again", "another film {0},{0} times", False),
    ],
)
def test_a_header_of_several_words_is_seen_by_the_columns_below_it(tmp_path, first, row, header):
    path = write(tmp_path / "a.csv", "\n".join([first, *(row.format(number, number % 7) for number in range(12))]))
    assert _read(path).facts["header"] is header


def test_header_and_delimiter_can_be_said(tmp_path):
    path = write(tmp_path / "a.csv", "good,film\nbad,day\n")
    assert _read(path, header=True).columns == ("good", "film")
    assert _read(path, header=False).columns == ("0", "1")
    assert _read(path, text="film").columns == ("good", "film")
    assert _read(write(tmp_path / "b.csv", "a::b\nc::d::e\n"), delimiter="::").rows == [["a", "b"], ["c", "d::e"]]
    with pytest.raises(ConfigError, match=r"^text\.delimiter='\\n': allowed is any text without line breaks and double quotes, such as ',' or '\\t'$"):
        _read(path, delimiter="\n")


def test_a_space_splits_only_as_often_as_there_are_columns(tmp_path):
    found = _read(tmp_path / "a.label", 'NUM:dist How far is it ?\nHUM:ind Who "was he ?\n', delimiter=" ")
    assert found.rows == [["NUM:dist", "How far is it ?"], ["HUM:ind", 'Who "was he ?']]
    assert _read(tmp_path / "b.txt", "a b c\n1 2 3 4 5\n", delimiter=" ", header=True).rows == [["1", "2", "3 4 5"]]


def test_a_tsv_with_unbalanced_quotes_is_read_without_quoting(tmp_path):
    found = _read(tmp_path / "a.tsv", 'label\ttext\n0\t"never closed\n1\tfine\n0\tclosed" here\n')
    assert found.rows == [["0", '"never closed'], ["1", "fine"], ["0", 'closed" here']]
    assert found.warnings == (f"{tmp_path / 'a.tsv'}: quotes are not balanced; they were read as ordinary characters",)
    swallowing = _read(tmp_path / "b.tsv", 'label\ttext\n0\t"one\n1\ttwo"\n1\tthree\n')
    assert len(swallowing.rows) == 3
    assert _read(tmp_path / "c.tsv", 'label\ttext\n0\t"all of it"\n').rows == [["0", "all of it"]]


def test_unbalanced_quotes_of_a_csv_name_the_line(tmp_path):
    _refused(
        r": quotes are not balanced: in the row that begins on line 3, ',' expected after '\"'; put a text with quotes or commas into quotes, "
        r"and write its own quotes twice",
        tmp_path / "a.csv",
        'text,label\nfine,1\n"a "quoted" text, and more",2\n',
    )
    assert len(_read(tmp_path / "b.csv", 'text,label\n"so" he said,1\nfine,2\n').rows) == 2


def test_ragged_rows_are_named_by_line(tmp_path):
    found = _read(tmp_path / "a.csv", "text,label\nx,1\ny\nz,1,2\nw,3\n")
    assert len(found.rows) == 2
    assert found.rejected == ((3, "1 fields, not 2 (text, label)"), (4, "3 fields, not 2 (text, label)"))


def test_a_column_named_twice_is_refused(tmp_path):
    message = r": the header names the column 'text' twice; give every column a name of its own, or say text\.header=False if it is none"
    _refused(message, tmp_path / "a.csv", "text,text\nx,y\n")


def test_a_field_without_end_is_refused(tmp_path):
    _refused(r": line 2 has a field of 2,000,001 characters; allowed are 2,000,000", tmp_path / "a.tsv", "text\tlabel\n" + "x" * 2_000_001 + "\t1\n")
    open_quote = 'text,label\n"' + "x,1\n" * 600_000
    _refused(r": line 2 has a field of more than 2,000,000 characters; is a quote left open\?", tmp_path / "a.csv", open_quote)
    assert len(_read(tmp_path / "b.csv", "text,label\n" + "x" * 200_000 + ',1\n"y",2\n').rows[0][0]) == 200_000


def test_a_carriage_return_within_a_text_is_part_of_it(tmp_path):
    assert _read(tmp_path / "a.csv", "text,label\nx\ry,1\nz,2\n").rows == [["x\ry", "1"], ["z", "2"]]
    assert _read(tmp_path / "b.csv", "text,label\rx,1\rz,2\r").rows == [["x", "1"], ["z", "2"]]


@pytest.mark.parametrize(
    ("raw", "encoding", "word", "warned"),
    [
        ("text\ncafé\n".encode(), "utf-8", "café", False),
        (b"\xef\xbb\xbf" + "text\ncafé\n".encode(), "utf-8-sig", "café", False),
        ("text\ncafé\n".encode("utf-16"), "utf-16", "café", False),
        ("text\n这间酒店环境很好\n".encode("gb18030"), "gb18030", "这间酒店环境很好", True),
        ("text\ncafé noël\n".encode("latin-1"), "latin-1", "café noël", True),
    ],
)
def test_the_encoding_is_found_out(tmp_path, raw, encoding, word, warned):
    found = _read(tmp_path / "a.csv", raw)
    assert (found.columns, found.facts["encoding"], found.rows[0][0]) == (("text",), encoding, word)
    assert bool(found.warnings) == warned
    if encoding == "latin-1":
        assert found.warnings == (f"{tmp_path / 'a.csv'} is not UTF-8; it was read as latin-1; if letters look wrong, say text.encoding",)


def test_the_encoding_can_be_said(tmp_path):
    raw = "text\nпривет\n".encode("cp1251")
    assert _read(tmp_path / "a.csv", raw, encoding="cp1251").rows == [["привет"]]
    _refused(r": line 2 is not utf-8: byte 0xef \(invalid continuation byte\); is text\.encoding another one\?", tmp_path / "a.csv", raw, encoding="utf-8")
    message = r"^text\.encoding='utf8x' is no encoding that Python knows: did you mean 'utf-8'\? allowed: "
    _refused(message, tmp_path / "a.csv", raw, ConfigError, encoding="utf8x")
    with pytest.raises(ConfigError, match=r"^text\.encoding='base64' is no encoding"):
        _read(tmp_path / "a.csv", encoding="base64")


def test_mixed_encodings_and_nul_bytes_name_the_line(tmp_path):
    mixed = "text\ncafé\n".encode() + "noël\n".encode("latin-1") + "été\n".encode()
    _refused(r" mixes encodings: line 2 is UTF-8, line 3 is not; save it in one, or say text\.encoding if it is not UTF-8 at all", tmp_path / "a.csv", mixed)
    _refused(r": line 3 holds a NUL byte; text has none", tmp_path / "a.csv", "text,label\nfine,1\nbr\0ken,2\n")
    wide = "text\ncafé\n".encode("utf-16-le")
    _refused(r": line 1 holds a NUL byte; text has none; it looks like UTF-16 without a mark: text\.encoding='utf-16-le'", tmp_path / "a.csv", wide)


def test_an_empty_file_and_a_folder_are_refused(tmp_path):
    _refused(r" is empty", tmp_path / "a.csv", " \n\n")
    with pytest.raises(DataError, match=r" is a folder, not a file$"):
        _read(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt"])
def test_json_lines_keep_their_values_and_their_lines(tmp_path, name):
    found = _read(tmp_path / name, jsonl({"text": "x", "label": 1}) + "\n" + jsonl({"text": "y", "tags": ["a"]}))
    assert found.columns == ("text", "label", "tags")
    assert list(found.rows) == [("x", 1, None), ("y", None, ["a"])]
    assert list(found.lines) == [1, 3]


def test_a_json_array_alone_or_in_an_object(tmp_path):
    for content in ('[{"text": "x"}]', '{"version": 1, "rows": [{"text": "x"}]}'):
        assert list(_read(tmp_path / "a.json", content).rows) == [("x",)]
    _refused(r": row 1 is 3, not an object with named fields such as \{\"text\": \.\.\., \"label\": \.\.\.\}", tmp_path / "a.json", "[3]")
    _refused(r": line 2 is no JSON: .*", tmp_path / "a.jsonl", '{"text": "x"}\n{"text": \n')


def test_parquet_is_read_and_a_damaged_one_named(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None], "label": [1, 2], "words": [["a"], ["b", "c"]]}), path)
    for name in (path, path.rename(tmp_path / "unnamed")):
        if name.exists():
            found = read_table(name, TextConfig())
            assert found.columns == ("text", "label", "words")
            assert list(found.rows) == [("x", 1, ["a"]), (None, 2, ["b", "c"])]
    _refused(r" is no Parquet file that can be read: .*", tmp_path / "b.parquet", b"PAR1 nothing")


def test_an_enormous_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(encodings, "LARGEST_FILE", 10)
    _refused(r" has 12 bytes; allowed are 10: cut it into smaller files, or keep the columns that are needed", tmp_path / "a.csv", "text,label\n\n")
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * 100]}), path)
    monkeypatch.setattr(columnar, "LARGEST_FILE", 10)
    with pytest.raises(DataError, match=r"a\.parquet unpacks to more than 10 bytes; keep the columns and rows that are needed$"):
        read_table(path, TextConfig())
