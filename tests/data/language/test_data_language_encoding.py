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


LOOP = "{% for m in messages %}{% if m.role == 'assistant' %}ANSWER{% else %}{{ m.content }}{% endif %}{% endfor %}"
SAID = "{% generation %}{{ m.content }}{% endgeneration %}"
TWICE = Conversation((Turn("user", "q"), Turn("assistant", "ho"), Turn("user", "r"), Turn("assistant", "h"), Turn("user", "bye")))
ENDINGS = {
    "forgotten": (SAID, "qho</s>rh</s>bye", "ho</s>h</s>"),
    "a role's token before": ("<|im_start|>" + SAID, "q<|im_start|>ho</s>r<|im_start|>h</s>bye", "ho</s>h</s>"),
    "a role's token behind": (SAID + "<|im_start|>", "qho<|im_start|>rh<|im_start|>bye", "ho<|im_start|>h<|im_start|>"),
    "inside": ("{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}", "qho<|im_end|>\nrh<|im_end|>\nbye", "ho<|im_end|>\nh<|im_end|>\n"),
    "right behind": (SAID + "<|im_end|>\n", "qho<|im_end|>\nrh<|im_end|>\nbye", "ho<|im_end|>h<|im_end|>"),
    "later": (SAID + ".<|im_end|>", "qho</s>.<|im_end|>rh</s>.<|im_end|>bye", "ho</s>h</s>"),
    "two blocks": (SAID + "|" + "{% generation %}.{% endgeneration %}", "qho|.</s>rh|.</s>bye", "ho.</s>h.</s>"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_the_end_of_every_answer_is_learnt_where_it_ends(tmp_path, case):
    source, text, expected = ENDINGS[case]
    (tmp_path / "x.jinja").write_text(LOOP.replace("ANSWER", source))
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"), template=str(tmp_path / "x.jinja"))
    (piece,) = one(encoder, TWICE)
    assert (tiny.decode(encoder, piece.ids), learnt(encoder, piece)) == (text, expected)
    assert tiny.decode(encoder, encoder.prompt(TWICE.turns)) == text


def test_a_prompt_of_several_turns_is_written_also_where_earlier_answers_cannot_be_told(tmp_path):
    hides = "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }}|{% endif %}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t", chat_template=hides))
    assert tiny.decode(encoder, encoder.prompt(TWICE.turns)) == "q|r|bye|>"


def test_a_role_that_opens_the_next_turn_does_not_end_an_answer(tmp_path):
    """Only what also stands behind a last answer ends one."""
    source = "{% for m in messages %}{% if m.role == 'assistant' %}" + SAID + "{% else %}<|im_start|>{{ m.content }}{% endif %}{% endfor %}"
    (tmp_path / "x.jinja").write_text(source)
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"), template=str(tmp_path / "x.jinja"))
    (piece,) = one(encoder, TWICE)
    assert tiny.decode(encoder, piece.ids) == "<|im_start|>qho</s><|im_start|>rh</s><|im_start|>bye"
    assert learnt(encoder, piece) == "ho</s>h</s>"
    assert encoder.stops == (257,)


@pytest.mark.parametrize("settings", [{"max_length": 16}, {"max_length": 2}, {"learn": "all"}, {}])
def test_answers_stop_at_the_same_tokens_whatever_training_cuts_and_learns(tmp_path, settings):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"), template="chatml", **settings)
    assert [encoder.tokenizer.engine.id_to_token(number) for number in encoder.stops] == ["</s>", "<|im_end|>"]


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("max_length", [4, 5, 64])
def test_windows_add_up_to_the_bytes_of_the_text(tmp_path, bos, max_length):
    """Letters of several tokens lie in two windows and count once."""
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t", bos=bos), max_length=max_length)
    text = "äöü€𝄞 ab" * 7
    assert sum(piece.bytes for piece in one(encoder, Passage(text))) == len(text.encode()) - (0 if bos else 2)


def test_spaces_that_a_tokenizer_drops_are_bytes_all_the_same(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    for name, steps, decoder in (
        ("metaspace", pre_tokenizers.Metaspace(), decoders.Metaspace()),
        ("dropped", pre_tokenizers.WhitespaceSplit(), decoders.WordPiece()),
    ):
        mark = "▁" if name == "metaspace" else ""
        tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, f"{mark}a": 2, f"{mark}b": 3}, unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = steps, decoder
        tokenizer.add_special_tokens(["</s>"])
        (tmp_path / name).mkdir()
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
        text = " ".join("ab" * 20)
        assert sum(piece.bytes for piece in one(tiny.encoder(tmp_path / name, max_length=3), Passage(text))) == len(text) - 1, name


def test_bytes_of_a_conversation_are_those_of_its_answers(tmp_path):
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"))
    (piece,) = one(encoder, Conversation((Turn("user", "öö"), Turn("assistant", "äß"), Turn("user", "ö"), Turn("assistant", "x"))))
    assert piece.bytes == 5
    (cut,) = one(tiny.encoder(tmp_path / "t", max_length=10), TWICE)
    assert (learnt(encoder, cut), cut.bytes) == ("ho</s>h", 3)


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


def test_all_blocks_of_both_answers_are_learnt_and_none_of_what_was_said_before(tmp_path):
    (tmp_path / "x.jinja").write_text(LOOP.replace("ANSWER", SAID + "|{% generation %}END{{ eos_token }}{% endgeneration %}"))
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t"), template=str(tmp_path / "x.jinja"))
    choice = Choice((*TALK.turns, Turn("user", "?")), (Turn("assistant", "good"),), (Turn("assistant", "bad"),))
    pieces = one(encoder, choice)
    assert [learnt(encoder, piece) for piece in pieces] == ["goodEND</s>", "badEND</s>"]
    assert tiny.decode(encoder, pieces[0].ids) == "hiho|END</s>?good|END</s>"


def test_what_a_template_refuses_is_told_for_its_row_alone(tmp_path):
    source = "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}" + tiny.UNMARKED
    encoder = tiny.encoder(tiny.write_tokenizer(tmp_path / "t", chat_template=source))
    bad = Conversation((Turn("user", "bad"), Turn("assistant", "ho")))
    first, second, third = encoder.pieces([TALK, bad, TALK])
    assert isinstance(second, DataError)
    assert np.array_equal(first[0].ids, third[0].ids)
