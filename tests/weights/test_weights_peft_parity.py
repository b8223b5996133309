"""Adapters between peft and here: what peft trained gives peft's logits here, and what was bound here gives the same logits in peft."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights_files import build, loaded_model, target_of, zeros_of

from ftjax import adapters, trees
from ftjax.config import AdapterConfig
from ftjax.training.peft import put_on, taken_off
from ftjax.weights import open_weights, plan, read_peft, recognise, write_peft

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")]
WHAT_IS_BOUND = (
    ("lora", {"scaling": "rslora", "rank_pattern": (("mlp.up", 2),), "alpha_pattern": (("mlp.down", 3.0),)}),
    ("dora", {}),
    ("pissa", {}),
    ("ia3", {}),
)
TEXT = {"vocab_size": 50, "num_labels": 3}
BERT = TEXT | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 20}
BASES = {
    "bert": ("BertForSequenceClassification", "BertConfig", BERT, ("query", "value"), "output.dense"),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", BERT, ("key", "value"), "output.dense"),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        TEXT | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 20},
        ("q_lin", "v_lin"),
        "lin2",
    ),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 8, "patch_size": 4, "num_labels": 3},
        ("q_proj", "v_proj"),
        "fc2",
    ),
}
WRITERS = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}
WRITERS |= {"head_dim": 4, "max_position_embeddings": 32}
GPT2 = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
DECODERS = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", WRITERS, ("q_proj", "v_proj"), "down_proj"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", WRITERS | {"tie_word_embeddings": True}, ("k_proj", "v_proj"), "down_proj"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", WRITERS, ("q_proj", "o_proj"), "down_proj"),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", WRITERS | {"query_pre_attn_scalar": 4, "sliding_window": 4}, ("q_proj", "up_proj"), "down_proj"),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, ("c_attn", "c_fc"), "mlp.c_proj"),
}
BASES |= DECODERS
ROWS = {"bert": (4, 8), "roberta": (4, 8), "gpt2": (8, 10)}
"""Weights that low ranks and gains sit on, where it is not one for each module: "output.dense" is two, GPT-2's c_attn is three."""
KINDS = {
    "lora": {},
    "rslora": {"use_rslora": True, "rank_pattern": {"layer.1.*|layers.1.*": 2}},
    "dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "ia3": None,
}


@pytest.fixture(scope="module")
def peft():
    """The package peft, or a skip."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return pytest.importorskip("peft")


@pytest.fixture(scope="module", params=BASES)
def base(request, peft, tmp_path_factory):
    """The name of a base, and its folder with random weights."""
    import transformers

    name, config, options, *_ = BASES[request.param]
    model = randomised(getattr(transformers, name)(getattr(transformers, config)(**options)))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return request.param, folder


def randomised(model, only=""):
    """Every parameter (whose name has `only`) at random, so that each of them matters."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if only in name:
                noise = torch.randn(value.shape, generator=generator)
                fan = value[0].numel() if value.ndim > 1 and value.shape[0] > 1 else 9
                value.copy_(noise / fan**0.5 + (value.ndim == 1 and "weight" in name))
    return model


def loaded(name, folder):
    """The base by transformers."""
    import transformers

    return getattr(transformers, BASES[name][0]).from_pretrained(folder).eval()


def task_of(name):
    """peft's word for what the base does."""
    return None if name == "vit" else "CAUSAL_LM" if name in DECODERS else "SEQ_CLS"


def made_by_peft(peft, name, folder, kind):
    """A peft model whose adapter, head and biases are random."""
    _, _, _, targets, down = BASES[name]
    task = task_of(name)
    saved = {"modules_to_save": ["classifier"]} if name == "vit" else {}
    laid = {"fan_in_fan_out": True} if name == "gpt2" else {}
    if kind == "ia3":
        config = peft.IA3Config(target_modules=[*targets, down], feedforward_modules=[down], task_type=task, **saved, **laid)
    else:
        config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=list(targets), task_type=task, **saved, **laid, **KINDS[kind])
    model = peft.get_peft_model(loaded(name, folder), config)
    for part in ("lora_", "ia3_", "modules_to_save", "magnitude", *(["bias"] if kind == "bias" else [])):
        randomised(model, part)
    return model.eval()


def inputs_of(name):
    """What ours and theirs read."""
    rng = np.random.default_rng(1)
    if name == "vit":
        return rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    tokens = rng.integers(5, 50, size=(2, 9)).astype(np.int32)
    mask = np.arange(9)[None] < np.array([[9], [6]])
    return {"tokens": np.where(mask, tokens, 1), "mask": mask, "segments": np.zeros_like(tokens)}


def theirs(model, name):
    import torch

    inputs = inputs_of(name)
    with torch.no_grad():
        if name == "vit":
            return model(torch.from_numpy(inputs).permute(0, 3, 1, 2)).logits.numpy()
        found = model(input_ids=torch.from_numpy(inputs["tokens"]).long(), attention_mask=torch.from_numpy(inputs["mask"]).long()).logits.numpy()
        return found[inputs["mask"]] if name in DECODERS else found


def close(actual, expected, kind=""):
    """Equal to 1e-5, of the largest logit where that is above 1."""
    assert np.abs(actual - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), kind


def ours_of(folder):
    """Our model of a base, its parameters, and what `read_peft` wants to know."""
    source = open_weights(str(folder))
    held = recognise(source)
    model = build(held)
    target = target_of(model)
    params, _ = loaded_model(model, plan(source, held, target, reinitialise=()).apply(zeros_of(target)))
    return model, params, held, {path: tuple(shape) for path, (shape, _) in target.items()}


def ours(model, params, name):
    logits = np.asarray(model.apply(params, {}, jax.tree.map(jnp.asarray, inputs_of(name)))[0])
    return logits[inputs_of(name)["mask"]] if name in DECODERS else logits


def moved_by_chance(bound):
    """Everything that trains of adapters and head, displaced at random; and its paths."""
    rng = np.random.default_rng(2)
    moved = {path for path in trees.flatten(bound) if path.rpartition("/")[2] in adapters.TRAINED or path.startswith("head/")}
    noise = {path: jnp.asarray(rng.normal(size=leaf.shape, scale=0.1), jnp.float32) for path, leaf in trees.flatten(bound).items() if path in moved}
    return trees.map_with_path(lambda path, leaf: leaf + noise[path] if path in moved else leaf, bound), moved


def test_adapters_of_peft_give_its_logits_and_come_back_to_it(base, peft, tmp_path):
    name, folder = base
    model, params, held, shapes = ours_of(folder)
    plain = ours(model, params, name)
    close(plain, theirs(loaded(name, folder), name))
    for kind in ("lora", "ia3") if name in DECODERS else KINDS:
        made = made_by_peft(peft, name, folder, kind)
        made.save_pretrained(tmp_path / kind)
        expected = theirs(made, name)
        adapter = read_peft(tmp_path / kind, held, shapes)
        bound = put_on(params, adapter)
        assert len(adapter.adapted) == ROWS.get(name, (4, 6))[kind == "ia3"]
        logits = ours(model, bound, name)
        close(logits, expected, kind)
        assert np.abs(expected - plain).max() > 0.05
        again = taken_off(bound, adapter.saved, dict(adapter.settings))
        write_peft(tmp_path / f"{kind} back", again, held, shapes, base_name=str(folder), task_type=adapter.settings.get("task_type"))
        back = peft.PeftModel.from_pretrained(loaded(name, folder), tmp_path / f"{kind} back").eval()
        close(theirs(back, name), expected, kind)


def test_adapters_bound_here_give_the_same_logits_in_peft(base, peft, tmp_path):
    name, folder = base
    model, params, held, shapes = ours_of(folder)
    for kind, extra in WHAT_IS_BOUND[:1] if name in ("qwen2", "qwen3", "gemma3") else WHAT_IS_BOUND:
        if name == "gpt2":  # its query, key and value lie fused, so they share one adapter or have none
            extra = extra | {"targets": ("attention.out", "mlp")}
        bound, _ = adapters.bind(params, AdapterConfig(kind=kind, rank=3, **extra), jax.random.key(0))
        bound, moved = moved_by_chance(bound)
        adapter = taken_off(bound, [path for path in moved if path.startswith("head/")], {"use_rslora": extra.get("scaling") == "rslora"})
        write_peft(tmp_path / kind, adapter, held, shapes, base_name=str(folder), task_type=task_of(name))
        there = peft.PeftModel.from_pretrained(loaded(name, folder), tmp_path / kind).eval()
        close(theirs(there, name), ours(model, bound, name), kind)


def test_every_key_of_pefts_configuration_is_known_here(peft):
    from ftjax.weights import peft_config

    known = {*peft_config._USED, *peft_config.HARMLESS, *peft_config._REFUSED, "init_lora_weights"}
    for kind in (peft.LoraConfig, peft.IA3Config):
        assert set(inspect.signature(kind).parameters) <= known
