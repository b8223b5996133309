"""Tokens and what is learnt of them: by place, the end always, nothing lost, what is cut is counted."""

import numpy as np
import pytest
import tiny_language as tiny

from ftjax.data.language.turns import Choice, Conversation, Passage, Turn
from ftjax.errors import DataError

TALK = Conversation((Turn("user", "hi"), Turn("assistant", "ho")))


def one(encoder, content):
    return next(iter(encoder.pieces([content])))


def learnt(encoder, piece):
    return tiny.decode(encoder, piece.ids[piece.learn])


@pytest.mark.parametrize(("settings", "end"), [({}, "</s>"), ({"chat_template": tiny.UNMARKED}, "<|im_end|>\n")])
def test_answers_and_their_end_are_learnt_and_nothing_else(tmp_path, settings, end):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t", **settings))
    (piece,) = one(encoder, TALK)
    assert learnt(encoder, piece) == f"ho{end}"
    assert tiny.decode(encoder, piece.ids) == encoder.template.render(TALK.turns)


def test_the_end_is_learnt_where_the_template_leaves_it_out(tmp_path):
    folder = tiny.write_tokenizer(tmp_path / "t")
    for source, expected in (
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", "ho</s>"),
        ("{% for m in messages %}{{ m.role }}{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>{% endfor %}", "ho<|im_end|>"),
    ):
        (tmp_path / "x.jinja").write_text(source)
        encoder = tiny.encoder(folder, template=str(tmp_path / "x.jinja"))
        (piece,) = one(encoder, Conversation((Turn("assistant", "ho"),)))
        assert learnt(encoder, piece).endswith(expected[1:])
        assert learnt(encoder, piece).count("</s>") <= 1


def test_an_answer_with_the_padding_token_in_it_is_learnt_by_place(tmp_path):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"))
    assert encoder.tokenizer.pad == encoder.ends.eos_id
    (piece,) = one(encoder, Conversation((Turn("user", "a</s>b"), Turn("assistant", "c</s>d"))))
    assert learnt(encoder, piece) == "c</s>d</s>"


def test_all_learns_everything_but_the_first_token(tmp_path):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"), learn="all")
    (piece,) = one(encoder, TALK)
    assert piece.learn.tolist() == [False] + [True] * (len(piece.ids) - 1)


def test_what_is_cut_is_counted(tmp_path):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"), max_length=6)
    (piece,) = one(encoder, Conversation((Turn("user", "hi"), Turn("assistant", "hello"))))
    assert (tiny.decode(encoder, piece.ids), piece.cut, piece.lost) == ("<s>hi\nhe", 4, 4)


@pytest.mark.parametrize("bos", [True, False])
def test_windows_learn_every_token_of_a_passage_once(tmp_path, bos):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t", bos=bos), max_length=7)
    text = "abcdefghijklmnopqrstuvwxyz"
    pieces = one(encoder, Passage(text))
    assert all(len(piece.ids) <= 7 and not piece.learn[0] for piece in pieces)
    found = "".join(learnt(encoder, piece) for piece in pieces)
    assert found == (text if bos else text[1:]) + "</s>"
    assert not any(piece.cut for piece in pieces)
    assert "</s>" not in learnt(encoder, one(encoder, Passage(text, ends=False))[-1])


def test_both_answers_of_a_choice_are_learnt_and_not_what_was_said_before(tmp_path):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"))
    choice = Choice((*TALK.turns, Turn("user", "?")), (Turn("assistant", "good"),), (Turn("assistant", "bad"),))
    assert [learnt(encoder, piece) for piece in one(encoder, choice)] == ["good</s>", "bad</s>"]


def test_what_a_template_refuses_is_told_for_its_row_alone(tmp_path):
    source = "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}" + tiny.UNMARKED
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t", chat_template=source))
    bad = Conversation((Turn("user", "bad"), Turn("assistant", "ho")))
    first, second, third = encoder.pieces([TALK, bad, TALK])
    assert isinstance(second, DataError)
    assert np.array_equal(first[0].ids, third[0].ids)
