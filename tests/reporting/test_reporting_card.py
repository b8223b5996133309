"""The model card: what was measured, in a form the hub reads, with nothing that a name could break."""

from __future__ import annotations

import json

import pytest
from reporting_run import CLASSES, coefficients_json, config_json, data_json, load_json, result_json, write_run

from ftjax.reporting.card import card, code, escape, write_card

SPEC = {"family": "vit", "options": {"patch": 4}, "num_classes": 10, "image_size": [16, 16]}


def full(**changes):
    return card(result_json(), data_json(CLASSES), load_json(), coefficients_json(), config_json(), spec=SPEC, **changes)


def test_the_card_says_what_how_well_and_from_what():
    text = full()
    for line in (
        "# vit\\_digits fine-tuned on digits",
        "Family `vit` (patch 4), input of 16 × 16 pixels, 10 classes.",
        "| **this model** | **95.9%** | [93.7, 97.8] |  |",
        "| linear probe | 89.6% | [85.9, 93.0] | logistic regression on the features, its strength picked on validation |",
        "| Calibration error (ECE) | 0.021 | [0.017, 0.041] |",
        "python -m ftjax.main predict --workdir runs/x --input photos/ --output predictions.jsonl",
        'predictions = ftjax.load("runs/x").predict(images)',
        f"Weights `builtin:digits` (ftjax safetensors), SHA-256 `{'4be1' * 16}`.",
        "| train | 200 |",
        "Layer-wise decay, 500 steps, 32,000 examples, seed 0. 445,066 of 451,402 parameters were trained."
        " Anchored to the pretrained weights by pull 0.01 (L2-SP), ball of radius 0.5 × |θ₀| (l2 norm)."
        " Weights: WiSE-FT at 0.75 rather than the best checkpoint (validation accuracy 96.2% instead of 95.4%). The best checkpoint is that of step 400.",
        "- Forgetting: accuracy on 200 source examples 82.0% before, 62.0% after; divergence from the pretrained answers 0.751 nats.",
        "| `stem` | 6,336 | frozen | 0 | 0 | 0 |",
        "- 1 file of the data could not be read and was left out (data.json names it)",
        "ftjax 0.1.0, jax 0.10.2",
    ):
        assert line in text, line


def test_the_front_matter_is_what_the_hub_reads():
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load(full(license_name="apache-2.0").split("---\n")[1])
    assert head["library_name"] == "ftjax"
    assert head["license"] == "apache-2.0"
    assert head["pipeline_tag"] == "image-classification"
    result = head["model-index"][0]["results"][0]
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    assert {"type": "accuracy", "value": 0.9593} in result["metrics"]


def test_the_licence_is_unknown_unless_given():
    assert 'license: "unknown"' in full()


def test_weights_of_the_hub_are_the_base_model():
    config = config_json()
    config["config"]["model"]["pretrained"] = "hf://timm/vit_tiny"
    assert 'base_model: "timm/vit_tiny"' in card(result_json(), config=config)


def test_the_best_checkpoint_is_named_where_nothing_was_better():
    result = result_json() | {"after": {"candidates": [], "chosen": "best_checkpoint"}}
    assert "The checkpoint of step 400 is the best on the validation split and is the one here." in card(result)


def test_what_is_unknown_is_not_claimed():
    text = card({})
    assert "The test set was not evaluated." in text
    assert "Trained from scratch, or the origin of its weights was not recorded." in text
    assert "The data were not recorded." in text
    assert "model-index" not in text
    assert "%" not in text.split("## How to use")[0]


def test_hostile_names_stay_text():
    yaml = pytest.importorskip("yaml")
    name = 'a|b`c\n---\nlicense: "mit" <script>'
    config = config_json()
    config["config"]["data"]["name"] = name
    text = card({**result_json(), "verdict": name}, data_json([name, *CLASSES]), load_json(), coefficients_json(), config, workdir='x"; rm -rf `y`')
    assert yaml.safe_load(text.split("\n---\n")[0].removeprefix("---"))["license"] == "unknown"
    assert "<script>" not in text.replace("\\<script\\>", "").replace('``a\\|b`c --- license: "mit" <script>``', "").split("---\n\n", 1)[1]
    assert "--workdir 'x\"; rm -rf `y`' --input" in text


@pytest.mark.parametrize(("text", "expected"), [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a|b", "`a\\|b`"), ("a\nb", "`a b`")])
def test_code_cannot_be_left(text, expected):
    assert code(text) == expected


def test_escape_keeps_one_plain_line():
    assert escape("a_b\n# *c* [d](e) \x1b") == r"a\_b \# \*c\* \[d\](e) \\x1b"


def test_write_card_reads_the_run_directory(tmp_path):
    path = write_card(write_run(tmp_path / "digits"), spec=SPEC)
    assert path == tmp_path / "digits" / "model" / "README.md"
    assert path.read_text() == full(workdir="runs/digits")
    path.with_name("model.json").write_text(json.dumps({"spec": SPEC}))
    assert write_card(tmp_path / "digits").read_text() == full(workdir="runs/digits")
