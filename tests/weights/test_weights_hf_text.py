"""Text encoders of Hugging Face without transformers: every spelling of the same weights, what is left out and why, and what is refused."""

import json

import numpy as np
import pytest
from weights_files import target_of, zeros_of

from ftjax import models
from ftjax.errors import WeightsError
from ftjax.weights import Recognised, open_weights, plan, recognise, save_hugging_face, save_safetensors

BODY = {"vocabulary": 12, "positions": 10, "width": 8, "depth": 2, "heads": 2, "hidden": 12}
KINDS = {
    "bert": {},
    "roberta": {"position_offset": 2, "segments": 1, "pool": "first", "head": "tanh"},
    "distilbert": {"segments": 0, "pool": "first", "head": "relu"},
    "modernbert": {"window": 3, "depth": 4},
}


SHOWN = {"bert": "BERT", "roberta": "RoBERTa", "distilbert": "DistilBERT", "modernbert": "ModernBERT"}


def model_of(kind, **options):
    family = "modernbert" if kind == "modernbert" else "bert"
    return models.build(models.ModelSpec(family, {**BODY, **KINDS[kind], **options}, 8 if options.get("output") == "embedding" else 3))


def written(folder, kind="bert", task="classification", **options):
    """A directory of a random model; its leaves and its config."""
    model = model_of(kind, **options)
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape).astype(np.float32) for path, (shape, _) in target_of(model).items()}
    held = Recognised(model.spec.family, dict(model.spec.options), model.spec.num_classes, None, "ftjax", None)
    save_hugging_face(folder, flat, held, task=task)
    return model, flat


def rewritten(folder, rename=lambda name: name, drop=(), add=None, **config):
    """The same directory with other names of tensors, fewer or more of them, or other values in `config.json` (None: without the key)."""
    tensors = open_weights(str(folder)).tensors
    kept = {rename(name): tensors[name] for name in tensors if not name.startswith(tuple(drop))}
    save_safetensors(folder / "model.safetensors", kept | (add or {}), {"format": "pt"})
    settings = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps({key: value for key, value in settings.items() if value is not None or key == "pad_token_id"}))
    return str(folder)


def read(place, model, reinitialise=()):
    """The plan and the leaves of a directory."""
    source = open_weights(str(place))
    made = plan(source, recognise(source), target_of(model), reinitialise=reinitialise)
    return made, made.apply(zeros_of(target_of(model)))


def same(one, other):
    assert one.keys() == other.keys()
    for path, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[path], err_msg=path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_it_was_written(kind, tmp_path):
    model, flat = written(tmp_path, kind)
    source = open_weights(str(tmp_path))
    held = recognise(source)
    assert (held.family, held.options, held.num_classes, held.image_size) == (model.spec.family, dict(model.spec.options), 3, None)
    assert held.name_map == f"Hugging Face {SHOWN[kind]}"
    assert source.folder == tmp_path
    same(read(tmp_path, model)[1], flat)


@pytest.mark.parametrize("kind", KINDS)
def test_prefixes_of_bodies_and_of_parallel_training_do_not_matter(kind, tmp_path):
    body = "model." if kind == "modernbert" else f"{kind}."
    for index, rename in enumerate((lambda name: f"module.{name}", lambda name: name.removeprefix(body), lambda name: f"module.{name.removeprefix(body)}")):
        model, flat = written(tmp_path / str(index), kind)
        same(read(rewritten(tmp_path / str(index), rename), model)[1], flat)


def test_gamma_and_beta_are_weight_and_bias_of_norms(tmp_path):
    model, flat = written(tmp_path)
    place = rewritten(tmp_path, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"))
    assert "bert.embeddings.LayerNorm.gamma" in open_weights(place).tensors
    same(read(place, model)[1], flat)


def test_what_pretraining_left_is_ignored_with_its_reason(tmp_path):
    model, flat = written(tmp_path)
    extra = {
        "bert.embeddings.position_ids": np.arange(10)[None],
        "cls.predictions.bias": np.ones(12, np.float32),
        "cls.predictions.transform.LayerNorm.gamma": np.ones(8, np.float32),
        "cls.seq_relationship.weight": np.ones((2, 8), np.float32),
    }
    made, found = read(rewritten(tmp_path, add=extra), model)
    same(found, flat)
    reasons = dict(made.ignored)
    assert reasons["bert.embeddings.position_ids"] == "counts 0, 1, 2, ..., or is 0 everywhere: computed, not stored"
    assert {reasons[name] for name in extra if name.startswith("cls.")} == {"the head of pretraining, which guessed words"}
    with pytest.raises(WeightsError, match=r"the tensor 'bert\.encoder\.something' \[8\] has no place in the model"):
        read(rewritten(tmp_path, add={"bert.encoder.something": np.ones(8, np.float32)}), model)


def test_the_end_of_a_file_may_be_left_for_another(tmp_path):
    written(tmp_path)
    held = recognise(open_weights(str(tmp_path)))
    for output, pool in (("tokens", None), ("embedding", "mean"), ("sequence", "first")):
        options = models.for_output(held.family, held.options, output, pool)
        model = models.build(models.ModelSpec("bert", options, 8))
        made, _ = read(tmp_path, model, ("head",))
        assert dict(made.ignored)["bert.pooler.dense.weight"] == "the pooler, which this model does not use"
        assert ("a head for which this model has no place" in dict(made.ignored).values()) == (output == "embedding")


def test_a_bert_without_pooler_gets_a_head_with_tanh_and_a_pooler_that_is_asked_for_starts_anew(tmp_path):
    written(tmp_path)
    place = rewritten(tmp_path, drop=("bert.pooler.", "classifier."), architectures=["BertForMaskedLM"])
    held = recognise(open_weights(place))
    assert (held.options["pool"], held.options["head"], held.num_classes) == ("first", "tanh", None)
    assert held.why == "the file has no pooler: a new head begins with a dense layer and tanh, as transformers would add them"
    made, _ = read(place, model_of("bert", pool="pooler", head="linear"), ("head",))
    rows = {row.target: (row.action, row.why) for row in made.rows}
    assert rows["pooler/kernel"] == ("initialised", "the file has none")


@pytest.mark.parametrize(
    ("kind", "task", "architecture", "expected"),
    [
        ("bert", "token_classification", "BertForTokenClassification", ("tokens", "linear", 3)),
        ("bert", "question_answering", "BertForQuestionAnswering", ("tokens", "linear", 3)),
        ("roberta", "token_classification", None, ("tokens", "linear", 3)),
        ("distilbert", "token_classification", None, ("tokens", "linear", 3)),
        ("bert", "classification", None, ("sequence", "linear", 3)),
        ("bert", "classification", "BertForMultipleChoice", ("sequence", "linear", None)),
        ("modernbert", "token_classification", "ModernBertForTokenClassification", ("tokens", None, 3)),
    ],
)
def test_heads_are_told_by_their_names_and_by_what_the_file_was_made_for(kind, task, architecture, expected, tmp_path):
    options = {} if task == "classification" else {"output": "tokens"} | ({"head": "linear"} if kind != "modernbert" else {})
    written(tmp_path, kind, task, **options)
    held = recognise(open_weights(rewritten(tmp_path, architectures=[architecture] if architecture else None)))
    assert (held.options["output"], held.options.get("head"), held.num_classes) == expected


def test_class_names_come_from_id2label_and_placeholders_do_not(tmp_path):
    written(tmp_path)
    assert recognise(open_weights(str(tmp_path))).classes is None
    place = rewritten(tmp_path, id2label={"0": "bad", "1": "so so", "2": "good"})
    assert recognise(open_weights(place)).classes == ("bad", "so so", "good")
    with pytest.raises(WeightsError, match=r"id2label names 2 classes \(bad, good, \.\.\.\), 'classifier.weight' has 3"):
        recognise(open_weights(rewritten(tmp_path, id2label={"0": "bad", "1": "good"})))


def test_modernberts_both_spellings_of_positions_and_layers_are_one(tmp_path):
    model, flat = written(tmp_path, "modernbert", theta=500.0, local_theta=50.0, every=2)
    new = recognise(open_weights(rewritten(tmp_path, global_attn_every_n_layers=None, global_rope_theta=None, local_rope_theta=None)))
    old = rewritten(
        tmp_path, layer_types=None, rope_parameters=None, global_attn_every_n_layers=2, global_rope_theta=500.0, local_rope_theta=50.0, torch_dtype="float32"
    )
    assert new.options == recognise(open_weights(old)).options == dict(model.spec.options)
    same(read(old, model)[1], flat)


def sentences(folder, pooling, modules=("Transformer", "Pooling", "Normalize")):
    """The files that sentence-transformers adds."""
    listed = [{"idx": index, "path": "", "type": f"sentence_transformers.models.{kind}"} for index, kind in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_of_sentence_transformers_is_pooled_as_it_says(kind, tmp_path):
    written(tmp_path, kind)
    place = rewritten(tmp_path, drop=("classifier.", "pre_classifier.", "head."))
    for pooling, pool in (({"pooling_mode_mean_tokens": True}, "mean"), ({"pooling_mode_cls_token": True}, "first"), ({"pooling_mode": "cls"}, "first")):
        sentences(tmp_path, pooling)
        held = recognise(open_weights(place))
        assert (held.options["pool"], held.options["output"], held.num_classes) == (pool, "embedding", None)
        assert held.why.startswith("sentence-transformers pools ")
    sentences(tmp_path, {"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"))
    assert recognise(open_weights(place)).why.endswith("; its Dense after the pooling is left out")
    sentences(tmp_path, {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True})
    with pytest.raises(WeightsError, match=r"1_Pooling/config.json: pooling 'max_tokens, mean_tokens' is not supported; allowed: mean, cls; without modules"):
        recognise(open_weights(place))


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("bert", {"hidden_act": "quick_gelu"}, "config.json: hidden_act='quick_gelu'; allowed: gelu, "),
        ("bert", {"position_embedding_type": "relative_key"}, "config.json: position_embedding_type='relative_key' is not supported; allowed: "),
        ("bert", {"is_decoder": True}, "config.json: is_decoder=True is not supported; allowed: is_decoder=False"),
        ("bert", {"vocab_size": 20}, "config.json: vocab_size=20, but 'bert.embeddings.word_embeddings.weight' has [12] rows; allowed: the number of rows"),
        ("bert", {"num_attention_heads": 3}, "config.json: num_attention_heads=3; allowed: a divisor of hidden_size=8"),
        ("bert", {"hidden_size": "8"}, "config.json: hidden_size='8'; allowed: a positive whole number"),
        ("roberta", {"pad_token_id": None}, "config.json: pad_token_id=None; allowed: the number of the padding token: positions are counted from it"),
        ("distilbert", {"activation": "mish"}, "config.json: activation='mish'; allowed: gelu, "),
        ("modernbert", {"attention_bias": True}, "config.json: attention_bias=True is not supported; allowed: attention_bias=False"),
        ("modernbert", {"layer_types": ["sliding_attention"] * 4}, "config.json: layer_types=['sliding_attention', "),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, '; allowed: {"rope_type": "default", "rope_theta": number}'),
        ("modernbert", {"classifier_pooling": "max"}, "config.json: classifier_pooling='max'; allowed: cls, mean"),
        ("bert", {"model_type": "deberta-v2"}, "of no known model, the first being "),
        ("bert", {"model_type": "deberta-v2"}, "config.json says model_type='deberta-v2'; known names: "),
    ],
)
def test_what_cannot_be_computed_is_refused_with_file_key_and_choice(kind, config, message, tmp_path):
    written(tmp_path, kind)
    with pytest.raises(WeightsError) as refusal:
        recognise(open_weights(rewritten(tmp_path, **config)))
    assert message in str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_names_without_their_config_are_refused_with_what_is_missing(kind, tmp_path):
    written(tmp_path, kind)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"the names are those of a Hugging Face \w+, whose heads and epsilons only config.json tells; give the directory"):
        recognise(open_weights(str(tmp_path)))


def test_a_truncated_model_and_weights_of_another_size_are_refused_by_name(tmp_path):
    written(tmp_path)
    with pytest.raises(WeightsError) as refusal:
        read(tmp_path, model_of("bert", hidden=16))
    assert "\n  encoder/block_0/mlp/up/bias [16]: 'bert.encoder.layer.0.intermediate.dense.bias' [12] has another shape" in str(refusal.value)
    assert "the model is a text encoder of 2 blocks, 12 words of width 8" in str(refusal.value)
    with pytest.raises(WeightsError, match=r"stem/position/embedding \[10, 8\]: no tensor fills it; the file has no 'bert\.embeddings\.position_embeddings"):
        read(rewritten(tmp_path, drop=("bert.embeddings.position",)), model_of("bert"))
    with pytest.raises(WeightsError, match="bert weights without a table of word embeddings; the file may be truncated"):
        recognise(open_weights(rewritten(tmp_path, drop=("bert.embeddings.word",))))


def test_half_a_head_is_not_taken(tmp_path):
    written(tmp_path, "roberta")
    with pytest.raises(WeightsError) as refusal:
        read(tmp_path, model_of("bert", segments=1, pool="first", head="linear"))
    assert "'classifier.dense.weight' [8, 8] has no place in the model; it would be head/dense/kernel" in str(refusal.value)


def test_the_folder_of_a_tokenizer_is_where_the_weights_lie(tmp_path):
    written(tmp_path / "hf")
    assert open_weights(str(tmp_path / "hf")).folder == tmp_path / "hf"
    assert open_weights(str(tmp_path / "hf" / "model.safetensors")).folder == tmp_path / "hf"
    save_safetensors(tmp_path / "run" / "model" / "weights.safetensors", {"a": np.ones(1)}, {})
    assert open_weights(str(tmp_path / "run")).folder == tmp_path / "run" / "model"
    assert open_weights("builtin:digits").folder is None


def test_our_own_files_of_text_models_say_what_they_are(tmp_path):
    model = model_of("roberta")
    flat = {path: np.ones(shape, np.float32) for path, (shape, _) in target_of(model).items()}
    save_safetensors(tmp_path / "weights.safetensors", flat, {"format": "ftjax", "spec": json.dumps(model.spec.to_json())})
    held = recognise(open_weights(str(tmp_path)))
    assert (held.family, held.options, held.num_classes, held.image_size, held.input) == ("bert", dict(model.spec.options), 3, None, None)
    same(read(tmp_path, model)[1], flat)
