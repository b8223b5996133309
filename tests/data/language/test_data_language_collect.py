"""From files to packed rows: every form that people keep, every row checked, every token counted, and batches that are a function of the step."""

import json

import numpy as np
import pytest
import tiny_language as tiny

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data import batch_at, eval_batches, steps_per_epoch
from ftjax.data.language.collect import collect_language
from ftjax.data.language.packing import pack
from ftjax.data.language.plain import blocks
from ftjax.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def collect(folder, path, *, task="language_modeling", max_length=64, text=None, seed=0, **data):
    given = {"near_duplicates": "off", "path": str(path), "source": "table"} | data
    encoder = tiny.encoder(folder, max_length=max_length, template=(text or {}).get("template"), learn=(text or {}).get("learn", "response"))
    return collect_language(DataConfig(**given), TextConfig(**(text or {})), TaskConfig(name=task), encoder, seed)


def learnt(folder, split):
    """What is learnt, document by document."""
    fields, encoder, found = split.fields(np.arange(len(split))), tiny.encoder(folder), []
    for tokens, document, learn in zip(fields["tokens"], fields["document"], fields["learn"]):
        found += [tiny.decode(encoder, tokens[(document == number) & learn]) for number in range(1, document.max() + 1)]
    return sorted(found)


ANSWERS = [f"a{i}" * (1 + i % 3) for i in range(30)]
FORMS = {
    "pair": [{"prompt": f"q{i}", "response": a} for i, a in enumerate(ANSWERS)],
    "question": [{"question": f"q{i}", "answer": a} for i, a in enumerate(ANSWERS)],
    "capitals": [{"Instruction": f"q{i}", "Input": "" if i % 2 else "x", "Output": a} for i, a in enumerate(ANSWERS)],
    "alpaca": [{"instruction": f"q{i}", "input": "" if i % 2 else "x", "output": a} for i, a in enumerate(ANSWERS)],
    "chat": [{"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": a}]} for i, a in enumerate(ANSWERS)],
    "sharegpt": [{"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": a}]} for i, a in enumerate(ANSWERS)],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns_the_same_answers(folder, tmp_path, form):
    dataset = collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", FORMS[form]))
    found = [answer for split in dataset.splits.values() for answer in learnt(folder, split)]
    assert sorted(found) == sorted(f"{answer}</s>" for answer in ANSWERS)
    assert all(entry["origin"] == "guessed" for entry in dataset.report["columns"].values())
    json.dumps(dataset.report)


def test_the_ledger_counts_every_token(folder, tmp_path):
    dataset = collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", FORMS["pair"]))
    ledger = dataset.report["ledger"]
    assert sum(part["rows"] for part in ledger.values()) == 30
    assert sum(part["supervised_tokens"] for part in ledger.values()) == sum(len(answer) + 1 for answer in ANSWERS)
    for name, split in dataset.splits.items():
        fields = split.fields(np.arange(len(split)))
        assert int(fields["learn"].sum()) == ledger[name]["supervised_tokens"]
        assert int((fields["document"] > 0).sum()) == ledger[name]["tokens"]
    assert len(dataset.splits["train"]) == ledger["train"]["sequences"] < ledger["train"]["documents"]
    assert len(dataset.splits["test"]) == ledger["test"]["rows"]
    unpacked = collect(folder, tmp_path / "rows.jsonl", text={"packing": False})
    assert learnt(folder, unpacked.splits["train"]) == learnt(folder, dataset.splits["train"])
    assert unpacked.report["ledger"]["train"]["sequences"] == ledger["train"]["documents"]


def test_what_is_cut_is_counted_and_warned_of(folder, tmp_path):
    rows = [{"prompt": f"{i}", "response": f"{i:02d}" + "x" * 40} for i in range(30)]
    dataset = collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", rows), max_length=16)
    train = dataset.report["ledger"]["train"]
    assert train["truncated"] == train["documents"]
    assert train["supervised_tokens_lost"] + train["supervised_tokens"] == 43 * train["documents"]
    assert any("tokens to be learnt are lost; text.max_length may allow more" in warning for warning in dataset.report["warnings"])


def test_one_prompt_stays_on_one_side_unless_there_is_hardly_another(folder, tmp_path):
    rows = [{"prompt": f"q{i // 2 if i < 20 else i}", "response": f"a{i}"} for i in range(30)]
    splits = collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", rows), text={"packing": False}).splits
    prompts = [{split.show(row)["text"] for row in range(len(split))} for split in splits.values()]
    assert sum(map(len, prompts)) == len(set().union(*prompts))
    alike = collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", [row | {"prompt": "Tell me."} for row in rows]), text={"packing": False})
    assert len(alike.splits["test"]) > 0


def test_rows_with_nothing_to_learn_end_the_run_or_are_named(folder, tmp_path):
    rows = [*FORMS["pair"], {"prompt": "q" * 80, "response": "never seen"}]
    path = tiny.write_rows(tmp_path / "train.jsonl", rows)
    files = {name: str(tiny.write_rows(tmp_path / f"{name}.jsonl", FORMS["question"][:5])) for name in ("validation", "test")}
    given = {f"{name}_path": file for name, file in files.items()} | {"duplicates": "report"}
    problem = r"nothing to learn in 1 rows:\n  train.jsonl:31 \(train\): nothing to learn is left of its 93 tokens within text.max_length=64\nAllow more with"
    with pytest.raises(DataError, match=problem):
        collect(folder, path, **given)
    report = collect(folder, path, bad_files="skip", **given).report
    assert report["rejected"] == [{"file": "train.jsonl:31", "why": "nothing to learn is left of its 93 tokens within text.max_length=64"}]
    assert report["ledger"]["train"]["dropped"] == 1


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "q", "response": ""}, "its answer is empty"),
        ({"prompt": "q", "response": None}, "its answer is missing"),
        ({"prompt": 3, "response": "a"}, "its prompt is int '3', not a text"),
    ],
)
def test_bad_answers_are_named(folder, tmp_path, row, why):
    path = tiny.write_rows(tmp_path / "rows.jsonl", [*FORMS["pair"], row])
    with pytest.raises(DataError, match=f"1 of 31 rows cannot be used:\n  rows.jsonl:31: {why}"):
        collect(folder, path)
    assert collect(folder, path, bad_files="skip").report["rejected"] == [{"file": "rows.jsonl:31", "why": why}]


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "user", "content": "q"}], "it has no answer: its roles are user, none is 'assistant'"),
        ([{"role": "asistant", "content": "a"}], "its messages, turn 1 has the unknown role 'asistant'; did you mean 'assistant'"),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": " "}], r"its messages, turn 2 \(assistant\) is empty"),
        ("hello", "its messages: 'hello' is no list of messages"),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}], "it begins with a turn of the assistant, which answers nothing"),
    ],
)
def test_bad_messages_are_named(folder, tmp_path, messages, why):
    path = tiny.write_rows(tmp_path / "rows.jsonl", [*FORMS["chat"], {"messages": messages}])
    with pytest.raises(DataError, match=f"rows.jsonl:31: {why}"):
        collect(folder, path)


def test_columns_that_cannot_be_guessed(folder, tmp_path):
    path = tiny.write_rows(tmp_path / "rows.jsonl", [{"ask": f"q{i}", "say": a} for i, a in enumerate(ANSWERS)])
    with pytest.raises(DataError, match=r"which column holds what is to be learnt cannot be seen \(its columns: 'ask', 'say'\): say text.prompt"):
        collect(folder, path)
    with pytest.raises(DataError, match=r"no column 'sy' \(text\.response\): did you mean 'say'"):
        collect(folder, path, text={"prompt": "ask", "response": "sy"})
    found = collect(folder, path, text={"prompt": "ask", "response": "say"})
    assert found.report["columns"]["response"] == {"column": "say", "origin": "given", "why": "by text.response"}


def talk(*said):
    return [{"role": role, "content": content} for role, content in zip(("user", "assistant") * 3, said)]


PAIR = {"chosen": "good", "rejected": "bad"}
PREFERENCES = {
    "strings": ({"prompt": "q"} | PAIR, "q\n"),
    "messages": ({"conversations": [{"from": "human", "value": "q"}], **{name: {"from": "gpt", "value": said} for name, said in PAIR.items()}}, "q\n"),
    "whole": ({name: talk("q", said) for name, said in PAIR.items()}, "q\n"),
    "whole beside the prompt": ({"prompt": "q"} | {name: talk("q", said) for name, said in PAIR.items()}, "q\n"),
    "whole beside the last question": ({"prompt": "q"} | {name: talk("p", "a", "q", said) for name, said in PAIR.items()}, "p\na</s>\nq\n"),
    "whole beside the first question": ({"prompt": "p"} | {name: talk("p", "a", "q", said) for name, said in PAIR.items()}, "p\na</s>\nq\n"),
    "whole beside all of the prompt": ({"prompt": talk("p", "a", "q")} | {name: talk("p", "a", "q", said) for name, said in PAIR.items()}, "p\na</s>\nq\n"),
    "several turns": ({"prompt": "p"} | {name: talk("p", "a", "q", said)[1:] for name, said in PAIR.items()}, "p\na</s>\nq\n"),
    "an instruction's input": ({"instruction": "p", "input": "q"} | {name: talk("p\nq", said) for name, said in PAIR.items()}, "p\nq\n"),
}


@pytest.mark.parametrize("form", PREFERENCES)
def test_preferences(folder, tmp_path, form):
    """Both texts, letter for letter, and their answers."""
    row, prompt = PREFERENCES[form]
    rows = [json.loads(json.dumps(row).replace('"good"', f'"good{i:02d}"')) for i in range(30)]
    fields, encoder = (
        collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", rows), task="preference").splits["train"].fields(np.arange(3)),
        tiny.encoder(folder),
    )
    for place in range(3):
        for side, answer in (("", "good"), ("pair_", "bad")):
            tokens, document, learn = (fields[f"{side}{name}"][place] for name in ("tokens", "document", "learn"))
            learnt = tiny.decode(encoder, tokens[learn])
            assert tiny.decode(encoder, tokens[document > 0]) == f"<s>{prompt}{learnt}"
            assert learnt == (f"{answer}</s>" if side else f"{learnt[:6]}</s>")
            assert learnt.startswith(answer)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "q", "chosen": "x", "rejected": "x"}, "its two answers are the same"),
        (
            {"prompt": "q"} | {name: talk("other", said) for name, said in PAIR.items()},
            "both its answers begin with a turn of the user, 'other', which is not in",
        ),
        (
            {"prompt": "q", "chosen": talk("one", "a"), "rejected": talk("two", "b")},
            "its better answer begins with a turn of the user, 'one', which is not in its",
        ),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "its prompt is missing: both answers begin differently"),
        (
            {"prompt": "q", "system": "s"} | {name: [{"role": "system", "content": "t"}, *talk("q", said)] for name, said in PAIR.items()},
            "two system messages, 's'",
        ),
    ],
)
def test_bad_preferences_are_named(folder, tmp_path, row, why):
    rows = [*({"prompt": f"q{i}"} | PAIR for i in range(30)), row]
    with pytest.raises(DataError, match=f"rows.jsonl:31: .*{why}"):
        collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", rows), task="preference")


def test_a_system_message_that_stands_twice_is_written_once(folder, tmp_path):
    rows = [{"system": "s", "messages": [{"role": "system", "content": "s"}, *talk(f"q{i}", "a")]} for i in range(30)]
    split = collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", rows)).splits["test"]
    fields = split.fields(np.arange(1))
    assert tiny.decode(tiny.encoder(folder), fields["tokens"][0][fields["document"][0] > 0]).startswith("<s>s\nq")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: it has two system messages, 'other' in a column of its own and 's' in its messages; keep one"):
        collect(folder, tiny.write_rows(tmp_path / "rows.jsonl", [row | {"system": "other"} for row in rows]))


def test_a_long_text_is_learnt_letter_for_letter(folder, tmp_path):
    text = "\n\n".join(f"paragraph {i} " + "word " * (i % 90) for i in range(200)) + "\n"
    assert "".join(blocks(text)) == text
    assert len(blocks(text)) > 8
    (tmp_path / "book.txt").write_text(text)
    dataset = collect(folder, tmp_path / "book.txt", source="plain_text", max_length=50)
    found = [answer for split in dataset.splits.values() for answer in learnt(folder, split)]
    assert sum(map(len, found)) == len(text) + len("</s>")
    assert sum("</s>" in answer for answer in found) == 1
    test = dataset.splits["test"]
    origins = test.fields(np.arange(len(test)))["origin"]
    assert [name.partition("#")[0] for name in test.ids] == [test.ids[np.flatnonzero(origins == origin)[0]] for origin in origins]
    assert len(set(origins)) < len(test)
    ordered = collect(folder, tmp_path / "book.txt", source="plain_text", max_length=50, split="time", time="position")
    assert any("</s>" in answer for answer in learnt(folder, ordered.splits["test"]))


def test_batches_are_a_function_of_the_step_and_no_row_is_lost(folder, tmp_path):
    path = tiny.write_rows(tmp_path / "rows.jsonl", FORMS["pair"])
    one, other = (collect(folder, path).splits["train"] for _ in range(2))
    steps = int(steps_per_epoch(one, 2))
    seen = []
    for step in range(steps):
        batch = batch_at(one, step, 2, seed=3)
        for name, values in batch_at(other, step, 2, seed=3).items():
            assert np.array_equal(batch[name], values), name
        seen += batch["id"][batch["weight"] > 0].tolist()
    assert sorted(seen) == list(range(len(one)))
    padded = [batch for batch in eval_batches(one, 4) if (batch["weight"] == 0).any()]
    assert all(not batch["learn"][batch["weight"] == 0].any() for batch in padded)


def test_the_order_of_the_file_does_not_matter_to_packing():
    lengths, names = np.array([5, 3, 3, 2, 7, 1, 4]), [f"d{i}" for i in range(7)]
    rows = pack(lengths, names, 8, seed=0)
    assert sorted(np.concatenate(rows)) == list(range(7))
    assert all(lengths[row].sum() <= 8 for row in rows)
    assert len(rows) == 4
    turned = pack(lengths[::-1], names[::-1], 8, seed=0)
    assert [[names[document] for document in row] for row in rows] == [[names[::-1][document] for document in row] for row in turned]
    with pytest.raises(DataError, match="document d4 has 7 tokens, more than a row of 6"):
        pack(lengths, names, 6, seed=0)


def test_packing_does_not_go_with_a_mixture(folder, tmp_path):
    path = tiny.write_rows(tmp_path / "rows.jsonl", FORMS["pair"])
    with pytest.raises(ConfigError, match=r"set text\.packing=False"):
        collect(folder, path, mixture=((str(path), 2.0),))
