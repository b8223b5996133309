"""Models that write, at `predict`: prompts by their rows, nothing overwritten, flags that say something, and programs that are compiled once."""

from __future__ import annotations

import datetime
import functools
import json

import jax
import pytest
import tiny_language as tiny

from ftjax import models
from ftjax.commands import predict
from ftjax.commands.artefact import Predictor
from ftjax.data import LanguagePreprocessing
from ftjax.errors import ConfigError, DataError
from ftjax.evaluation import generation
from ftjax.main import main

OPTIONS = {"vocabulary": tiny.SIZE, "positions": 48, "width": 8, "depth": 1, "heads": 1, "kv_heads": 1, "hidden": 8}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny.encoder(tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@functools.cache
def params():
    """Random weights."""
    return jax.jit(models.build(models.ModelSpec("decoder", OPTIONS, tiny.SIZE)).init)(jax.random.key(0))[0]


def writer(encoder, form="pair", columns=(("prompt", "prompt"), ("response", "response"))):
    """A model as `load` would give it: a new one each time."""
    model = models.build(models.ModelSpec("decoder", OPTIONS, tiny.SIZE))
    preprocessing = LanguagePreprocessing(encoder, "language_modeling", columns, form)
    return Predictor(model, preprocessing, None, None, (), params(), {}, None, 1, 1, None)  # type: ignore[arg-type]


@pytest.fixture
def call(encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(predict, "load", lambda workdir: writer(encoder))

    def run(rows, *flags):
        source, output = tiny.write_rows(tmp_path / "asked.jsonl", rows), tmp_path / "out.jsonl"
        code = main(["predict", "--workdir", "run", "--input", str(source), "--output", str(output), *flags])
        return code, [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else None

    return run


def test_another_write_adds_no_program(encoder):
    first = writer(encoder).write(["abc"], max_tokens=4)
    before = [program._cache_size() for program in (generation._read, generation._advance)]
    assert writer(encoder).write(["abc"], max_tokens=4) == first
    assert [program._cache_size() for program in (generation._read, generation._advance)] == before


def test_answers_stand_beside_the_rows_and_overwrite_nothing(call):
    code, [row] = call([{"prompt": "a", "prediction": "old"}], "--max-tokens", "4")
    assert code == 0
    assert list(row) == ["prompt", "prediction", "prediction_predicted"]
    assert row["prediction"] == "old"


def test_a_cell_that_json_has_no_word_for_is_written(encoder, monkeypatch, tmp_path):
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setattr(predict, "load", lambda workdir: writer(encoder))
    parquet.write_table(pyarrow.table({"prompt": ["a"], "day": [datetime.date(2026, 1, 2)]}), tmp_path / "a.parquet")
    flags = ["--input", str(tmp_path / "a.parquet"), "--output", str(tmp_path / "out.jsonl"), "--max-tokens", "4"]
    assert main(["predict", "--workdir", "run", *flags]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["day"] == "2026-01-02"


def test_a_prompt_that_is_too_long_is_named_before_anything_is_written(call, capsys, monkeypatch):
    monkeypatch.setattr(generation.Generator, "tokens", lambda *_, **__: pytest.fail("an answer was written"))
    code, _ = call([*({"prompt": "a"} for _ in range(20)), {"prompt": "b" * 45}], "--max-tokens", "4")
    assert code == 2
    assert "asked.jsonl:21 has 47 tokens of the model's 48; max_tokens=4 does not fit, allowed: at most 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--probabilities",), "--probabilities says nothing to a model that writes texts; leave it out"),
        (("--bad-files", "skip"), "--bad-files says nothing to a model that writes texts"),
        (("--seed", "3000000000000"), "sampling: seed=3000000000000; allowed: 0 to 4294967295"),
        (("--seed", "-1"), "sampling: seed=-1; allowed: 0 to 4294967295"),
    ],
)
def test_flags_that_mean_nothing_here_are_refused(call, capsys, flags, problem):
    assert call([{"prompt": "a"}], *flags)[0] == 2
    assert problem in capsys.readouterr().err


def test_every_seed_up_to_the_largest_draws(call):
    drawn = [call([{"prompt": "a"}], "--max-tokens", "4", "--temperature", "5", "--seed", seed)[1] for seed in ("3000000000", "4294967295")]
    assert drawn[0] != drawn[1]


def test_a_model_of_plain_text_goes_on_from_it(encoder, monkeypatch):
    """No template: the beginning of a text and its own tokens."""
    seen = []
    monkeypatch.setattr(generation.Generator, "tokens", lambda self, prompts, *_, **__: seen.extend(prompts) or [])
    model = writer(encoder, "passage", (("text", "text"),))
    model.write(["Once"])
    assert [tiny.decode(encoder, prompt) for prompt in seen] == ["<s>Once"]
    with pytest.raises(ConfigError, match="trained on plain text and goes on from a text; messages are no prompt for it"):
        model.write([[{"role": "user", "content": "a"}]])
    with pytest.raises(DataError, match="prompt 1: its text is empty"):
        model.write(["a", " "])
