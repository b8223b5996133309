"""Prompts are written as training wrote them: the same columns, system messages and inputs, plain text as plain text; no row is lost or invented."""

import json

import pytest
import tiny_language as tiny

from ftjax.config import TextConfig
from ftjax.data.language.forms import find_form
from ftjax.data.language.preprocessing import LanguagePreprocessing
from ftjax.data.language.prompts import read_prompts
from ftjax.data.text.table import read_table
from ftjax.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def trained_on(folder, rows, task="language_modeling", **text):
    """What a run on these rows saves of them."""
    path = tiny.write_rows(folder / "trained.jsonl", rows)
    form = find_form(read_table(path, TextConfig(**text)), TextConfig(**text), task)
    template = text.get("template", "alpaca" if form.kind == "pair" else None)
    return LanguagePreprocessing(tiny.encoder(folder, template=template, max_length=300), task, tuple(sorted(form.columns.items())), form.kind), form, path


def prompts(preprocessing, path, **text):
    found = read_prompts(path, TextConfig(**text), preprocessing)
    return [tiny.decode(preprocessing.encoder, preprocessing.encoder.prompt(asked)) for asked in found.asked]


SYSTEM, ADD = "Be brief.", {"instruction": "Add", "input": "2+2", "output": "4"}
TRAINED = {
    "system": [{"system": SYSTEM, "prompt": "hi", "response": "ho"}],
    "system beside messages": [{"system": SYSTEM, "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}],
    "input and output": [{"input": "2+2", "output": "4"}],
    "an input that was not used": [{"question": "q", "input": "unused", "response": "4"}],
    "alpaca": [ADD, {**ADD, "input": ""}],
    "capitals": [{"Instruction": "Add", "Input": "2+2", "Output": "4"}],
    "plain": [{"text": "Once upon"}],
}


@pytest.mark.parametrize("case", TRAINED)
def test_the_rows_of_training_are_asked_as_training_wrote_them(folder, case):
    """The prompt is what training put before the answer, letter for letter."""
    preprocessing, form, path = trained_on(folder, TRAINED[case])
    table, encoder = read_table(path, TextConfig()), preprocessing.encoder
    for row, prompt in enumerate(prompts(preprocessing, path)):
        (piece,) = next(iter(encoder.pieces([form.reader(table)(row)])))
        whole = tiny.decode(encoder, piece.ids)
        learnt = tiny.decode(encoder, piece.ids[piece.learn])
        assert whole == (f"{prompt}</s>" if form.kind == "passage" else prompt + learnt)
        assert prompt.count("2+2") == sum("2+2" in str(value) for value in TRAINED[case][row].values())
        assert (SYSTEM in prompt) == ("system" in case)


def test_a_passage_goes_on_from_its_own_text(folder, tmp_path):
    preprocessing, *_ = trained_on(folder, TRAINED["plain"])
    (tmp_path / "a.txt").write_text("Once\n\nupon\n", newline="")
    assert prompts(preprocessing, tmp_path / "a.txt") == ["<s>Once", "<s>upon"]
    for column in ("text", "prompt"):
        assert prompts(preprocessing, tiny.write_rows(tmp_path / "a.jsonl", [{column: "Once"}])) == ["<s>Once"]
    with pytest.raises(ConfigError, match=r"text\.prompt: predict reads no such column for this model; allowed: text\.text"):
        prompts(preprocessing, tmp_path / "a.jsonl", prompt="prompt")


def test_a_line_is_what_ends_with_a_line_break(folder, tmp_path):
    preprocessing, *_ = trained_on(folder, TRAINED["input and output"], template="prompt_response")
    (tmp_path / "a.txt").write_bytes("a\u2028b\r\n\nc\x0bd\n".encode())
    found = read_prompts(tmp_path / "a.txt", TextConfig(), preprocessing)
    assert [row["prompt"] for row in found.rows] == ["a\u2028b", "c\x0bd"]
    assert (found.names, found.warnings) == (["a.txt:1", "a.txt:3"], ())
    (tmp_path / "a.txt").write_bytes(b"\xe9\n")
    assert "is not UTF-8; it was read as latin-1" in read_prompts(tmp_path / "a.txt", TextConfig(), preprocessing).warnings[0]


def test_columns_that_flags_name_or_that_stand_in(folder, tmp_path):
    preprocessing, *_ = trained_on(folder, [{"question": "q", "answer": "a"}], template="prompt_response")
    path = tiny.write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "ask": "s", "frame": "f"}])
    assert prompts(preprocessing, path) == ["<s>p\n"]
    assert prompts(preprocessing, path, prompt="ask") == ["<s>s\n"]
    assert prompts(preprocessing, path, prompt="ask", system="frame") == ["<s>f\ns\n"]
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    assert prompts(preprocessing, tiny.write_rows(tmp_path / "b.jsonl", [{"messages": talk}])) == ["<s>a\nb</s>\nc\n"]


def test_what_cannot_be_asked_is_told(folder, tmp_path):
    preprocessing, *_ = trained_on(folder, [{"question": "q", "answer": "a"}], template="prompt_response")
    (tmp_path / "a.csv").write_text("question,other\na,1\nb,2,3\nc,4\n")
    with pytest.raises(DataError, match=r"a\.csv: 1 rows are not in the table's form, and every row must come out again:\n  line 3: "):
        prompts(preprocessing, tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"input=.*b\.txt does not exist; in .* there is no 'b\.txt': did you mean 'a\.csv'|allowed"):
        prompts(preprocessing, tmp_path / "b.txt")
    path = tiny.write_rows(tmp_path / "c.jsonl", [{"questions": "q"}])
    with pytest.raises(DataError, match=r"no column 'question', which the model was trained on: did you mean 'questions'.*name one with text\.prompt"):
        prompts(preprocessing, path)
    with pytest.raises(DataError, match=r"c\.jsonl:2: its prompt is empty"):
        prompts(preprocessing, tiny.write_rows(path, [{"question": "q"}, {"question": " "}]))
    with pytest.raises(ConfigError, match=r"text\.response: predict reads no such column for this model; allowed: text\.messages, text\.prompt, text\.system"):
        prompts(preprocessing, path, response="question")
    with pytest.raises(DataError, match=r"has no column 'sistem' \(text\.system\)"):
        prompts(preprocessing, path, system="sistem")


def test_a_system_column_that_is_missing_is_said(folder, tmp_path):
    preprocessing, *_ = trained_on(folder, TRAINED["system"])
    found = read_prompts(tiny.write_rows(tmp_path / "a.jsonl", [{"prompt": "hi"}]), TextConfig(), preprocessing)
    assert [warning.split("a.jsonl ")[1] for warning in found.warnings] == [
        "has no column 'system', from which training took system messages; its prompts are written without"
    ]


def test_preprocessing_comes_back_and_an_older_one_is_named(folder, tmp_path):
    preprocessing, *_ = trained_on(folder, TRAINED["plain"])
    preprocessing.tokenizer.save(tmp_path / "tokenizer.json")
    saved = json.loads(json.dumps(preprocessing.to_json()))
    assert LanguagePreprocessing.from_json(saved, tmp_path).to_json() == preprocessing.to_json()
    del saved["form"]
    with pytest.raises(DataError, match=r"the field 'form' is missing; .* was written by an older ftjax: train again"):
        LanguagePreprocessing.from_json(saved, tmp_path)
