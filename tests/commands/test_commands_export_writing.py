"""An exported model that writes brings its own template and the tokens that end an answer, and transformers writes prompts by it as training did."""

from __future__ import annotations

import json

import pytest
import tiny_language as tiny

from ftjax.commands.export_writing import write_manner
from ftjax.data import LanguagePreprocessing
from ftjax.data.language.template import NAMED, Template
from ftjax.data.language.turns import Turn

TURNS = (Turn("system", "s"), Turn("user", "q"), Turn("assistant", "a"), Turn("user", "r"))
OTHER = "{{ 'of the origin' }}"


def exported(folder, *, template, form="chat", bos=True, **settings):
    """A directory after the export of a run with this template, and the run's encoder."""
    encoder = tiny.encoder(tiny.write_tokenizer(folder, bos=bos, **settings), template=template)
    write_manner(folder, LanguagePreprocessing(encoder, "language_modeling", (), form))
    return encoder


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("name", NAMED)
def test_the_template_of_training_replaces_that_of_the_origin(tmp_path, name, bos):
    (tmp_path / "chat_template.jinja").write_text(OTHER)
    encoder = exported(tmp_path, template=name, bos=bos, chat_template=OTHER)
    assert "chat_template" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    # The tokens of tokenizer_config.json are what transformers gives to a template.
    theirs = Template((tmp_path / "chat_template.jinja").read_text(), "theirs", "<s>", "</s>")
    assert theirs.render(TURNS, answer=True) == encoder.template.render(TURNS, answer=True)


@pytest.mark.parametrize(
    ("name", "held", "written"), [("chatml", 257, [257, 259]), ("chatml", [3, 259], [3, 257, 259]), ("chatml", None, [257, 259]), ("alpaca", 257, 257)]
)
def test_generation_stops_where_training_ended_answers(tmp_path, name, held, written):
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "eos_token_id": held}))
    exported(tmp_path, template=name)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"temperature": 0.5, "eos_token_id": written}


def test_models_of_plain_text_keep_the_template_that_they_came_with(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(OTHER)
    exported(tmp_path, template="chatml", form="passage", chat_template=OTHER)
    assert not (tmp_path / "generation_config.json").exists()
    assert (tmp_path / "chat_template.jinja").read_text() == OTHER
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"] == OTHER


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMED)
def test_transformers_writes_the_prompts_of_training(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    encoder = exported(tmp_path, template=name, bos=False, chat_template=OTHER)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    messages = [{"role": turn.role, "content": turn.content} for turn in TURNS]
    assert theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False) == encoder.prompt(TURNS).tolist()
