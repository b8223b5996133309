"""Chat templates: what the assistant says is known exactly, by the template's own mark or by what each answer adds; nothing escapes the sandbox."""

import pytest
import tiny_language as tiny

from ftjax.data.language.template import NAMED, Template, check_template
from ftjax.data.language.turns import Turn
from ftjax.errors import ConfigError, DataError

TURNS = (Turn("user", "one?"), Turn("assistant", "1"), Turn("user", "two?"), Turn("assistant", "2, too"))


def learnt(template: Template, turns=TURNS) -> list[str]:
    rendered = template.rendered(turns)
    assert rendered.text == template.render(turns)
    return [rendered.text[start:stop] for start, stop in rendered.spans]


@pytest.mark.parametrize(("name", "end"), [("prompt_response", "</s>"), ("alpaca", "</s>"), ("chatml", "<|im_end|>")])
def test_named_templates_mark_every_answer_with_its_end(name, end):
    template = Template(NAMED[name], name, "<s>", "</s>")
    assert learnt(template) == [f"1{end}", f"2, too{end}"]
    assert template.render(TURNS).startswith(template.render(TURNS[:1], answer=True))


def test_an_alpaca_prompt_is_stanfords():
    prompt = Template(NAMED["alpaca"], "alpaca", "", "</s>").render((Turn("user", "Add.", "1 2"),), answer=True)
    assert prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )


def test_without_a_mark_what_each_answer_adds_is_learnt():
    assert learnt(Template(tiny.UNMARKED, "x", "", "")) == ["1<|im_end|>\n", "2, too<|im_end|>\n"]


def test_a_template_that_rewrites_earlier_answers_is_refused():
    hides = "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(DataError, match=r"writes turn 2 otherwise when other turns follow.*generation.*another text.template"):
        Template(hides, "x", "", "").rendered(TURNS)
    assert learnt(Template(hides, "x", "", ""), TURNS[:2]) == ["1"]


def test_blocks_of_one_turn_are_one_answer():
    """Also where a loop inside the turn's, or a macro with a loop, writes them."""
    two = "{% generation %}{{ m.content }}{% endgeneration %}|{% generation %}end{% endgeneration %}"
    each = "{% for letter in m.content %}{% generation %}{{ letter }}{% endgeneration %}{% endfor %}"
    macro = "{% macro say(m) %}{% for letter in m.content %}{% generation %}{{ letter }}{% endgeneration %}{% endfor %}{% endmacro %}"
    turns, found = (Turn("user", "q"), Turn("assistant", "ab"), Turn("assistant", "c")), []
    for before, block in (("", two), ("", each), (macro, "{{ say(m) }}")):
        source = before + "{% for m in messages %}{% if m.role == 'assistant' %}" + block + "{% else %}{{ m.content }}{% endif %}{% endfor %}"
        rendered = Template(source, "x", "", "").rendered(turns)
        found.append([[rendered.text[start:stop] for start, stop in spans] for spans in rendered.answers])
    assert found == [[["ab", "end"], ["c", "end"]], [["a", "b"], ["c"]], [["a", "b"], ["c"]]]


def test_a_named_template_needs_its_marks_as_tokens(tmp_path):
    folder = tiny.write_tokenizer(tmp_path / "t", special=("<s>", "</s>", "<|im_start|>"))
    problem = r"text\.template='chatml' writes <\|im_end\|>, which the tokenizer of .*/t has no token for; allowed: 'prompt_response', 'alpaca'"
    with pytest.raises(ConfigError, match=problem):
        tiny.encoder(folder, template="chatml")
    assert tiny.encoder(folder, template="alpaca").template.source == NAMED["alpaca"]


def test_templates_run_in_a_sandbox_and_may_refuse():
    with pytest.raises(DataError, match="refuses it: access to attribute '__class__'"):
        Template("{{ ''.__class__.__mro__ }}", "x", "", "").render(TURNS)
    with pytest.raises(DataError, match="refuses it: no system"):
        Template("{{ raise_exception('no system') }}", "x", "", "").render(TURNS)
    with pytest.raises(ConfigError, match=r"the chat template \(x\) cannot be read"):
        check_template(Template("{% for %}", "x", "", ""))


def test_the_choice_of_a_template(tmp_path):
    plain = tiny.write_tokenizer(tmp_path / "plain")
    own = tiny.write_tokenizer(tmp_path / "own", chat_template=tiny.UNMARKED)
    assert tiny.encoder(plain).template.source == NAMED["prompt_response"]
    assert tiny.encoder(own).template.source == tiny.UNMARKED
    assert tiny.encoder(own, template="alpaca").template.source == NAMED["alpaca"]
    file = tmp_path / "mine.jinja"
    file.write_text(NAMED["chatml"])
    assert tiny.encoder(plain, template=str(file)).template.source == NAMED["chatml"]
    with pytest.raises(ConfigError, match=r"text\.template='tokenizer': .* has no chat template"):
        tiny.encoder(plain, template="tokenizer")
    with pytest.raises(ConfigError, match=r"text\.template='alpca' is no file and no template: did you mean 'alpaca'"):
        tiny.encoder(plain, template="alpca")
