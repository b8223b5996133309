"""`export --format hf`: the directory that transformers loads, from finished runs of pictures and of texts, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
import tokenizers

from ftjax import files, main, models, trees, weights

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "not")
BODY = {"vocabulary": 12, "positions": 20, "width": 16, "depth": 2, "heads": 2, "hidden": 24}


SETTINGS = {"regression": {"mean": 2.5, "deviation": 1.5}}


def tokenizer_json() -> str:
    """A tokenizer of whole words with BERT's frame."""
    pieces = tokenizers.Tokenizer(tokenizers.models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    pieces.normalizer = tokenizers.normalizers.BertNormalizer()
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    pieces.add_special_tokens(list(WORDS[:5]))
    frame = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1", "special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    pieces.post_processor = tokenizers.processors.TemplateProcessing(**frame)
    return pieces.to_str()


def finished_text(folder, task="classification", classes=("bad", "good"), **options):
    """What a finished run of text leaves in `model/`, with random weights."""
    output = {"token_classification": "tokens", "question_answering": "tokens", "sentence_embedding": "embedding"}.get(task, "sequence")
    width = {"embedding": 16}.get(output, {"regression": 1, "question_answering": 2}.get(task, len(classes)))
    model = models.build(models.ModelSpec("bert", {**BODY, "output": output, **options}, width))
    flat = {path: np.asarray(leaf) for path, leaf in trees.flatten(model.init(jax.random.key(0))[0]).items()}
    described = {"spec": model.spec.to_json(), "classes": list(classes)}
    metadata = {"format": "ftjax"} | {key: json.dumps(value) for key, value in described.items()}
    weights.save_safetensors(folder / "model" / "weights.safetensors", flat, metadata)
    described |= {"format": 1, "task": task, "task_settings": SETTINGS.get(task, {}), "preprocessing": {"max_length": 12}}
    files.write_json(folder / "model" / "model.json", described)
    (folder / "model" / "tokenizer.json").write_text(tokenizer_json())
    return folder, flat


def exported(run, capsys, name="hf"):
    """The directory of a run's export."""
    folder = run / name
    code = main.main(["export", "--workdir", str(run), "--format", "hf", "--output", str(folder)])
    assert (code, capsys.readouterr().out) == (0, f"{folder}\n")
    return folder


def refusal(run, capsys, *more):
    """The one line that says why nothing is written."""
    assert main.main(["export", "--workdir", str(run), "--output", str(run / "hf"), *more]) == 2
    return capsys.readouterr().err


def test_a_run_of_pictures_becomes_a_directory_with_its_classes_and_the_very_weights(finished, tmp_path, capsys):
    shutil.copytree(finished.workdir / "model", tmp_path / "model")
    folder = exported(tmp_path, capsys)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "preprocessor_config.json"}
    config = files.read_json(folder / "config.json")
    assert (config["architectures"], config["id2label"]["3"]) == (["ViTForImageClassification"], "3")
    source = weights.open_weights(str(folder))
    held = weights.recognise(source)
    assert (held.family, held.num_classes, held.image_size) == ("vit", 10, (16, 16))
    stored = weights.open_weights(str(finished.workdir)).tensors
    np.testing.assert_array_equal(source.tensors["classifier.weight"].T, stored["head/kernel"])


def test_a_run_of_texts_becomes_a_directory_with_tokenizer_classes_and_problem(tmp_path, capsys):
    run, flat = finished_text(tmp_path)
    folder = exported(run, capsys)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    config = files.read_json(folder / "config.json")
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["id2label"], config["label2id"]) == ({"0": "bad", "1": "good"}, {"bad": 0, "good": 1})
    assert (config["problem_type"], config["pad_token_id"], config["vocab_size"]) == ("single_label_classification", 0, 12)
    told = files.read_json(folder / "tokenizer_config.json")
    assert (told["model_max_length"], told["pad_token"], told["sep_token"]) == (12, "[PAD]", "[SEP]")
    assert (folder / "tokenizer.json").read_text() == (run / "model" / "tokenizer.json").read_text()
    np.testing.assert_array_equal(weights.open_weights(str(folder)).tensors["bert.pooler.dense.weight"].T, flat["pooler/kernel"])


@pytest.mark.parametrize(
    ("task", "classes", "options", "architecture", "keys"),
    [
        ("multi_label", ("a", "b", "c"), {}, "BertForSequenceClassification", {"problem_type": "multi_label_classification"}),
        ("regression", (), {}, "BertForSequenceClassification", {"problem_type": "regression", "id2label": {"0": "LABEL_0"}}),
        ("token_classification", ("O", "B-x", "I-x"), {}, "BertForTokenClassification", {"id2label": {"0": "O", "1": "B-x", "2": "I-x"}}),
        ("question_answering", (), {}, "BertForQuestionAnswering", {}),
        ("classification", ("a", "b"), {"pool": "first", "head": "relu", "segments": 0}, "DistilBertForSequenceClassification", {"dim": 16}),
        ("sentence_embedding", (), {"pool": "mean"}, "BertModel", {}),
    ],
)
def test_every_task_has_its_class(task, classes, options, architecture, keys, tmp_path, capsys):
    folder = exported(finished_text(tmp_path, task, classes, **options)[0], capsys)
    config = files.read_json(folder / "config.json")
    assert config["architectures"] == [architecture]
    assert keys.items() <= config.items()
    assert ("qa_outputs.weight" in weights.open_weights(str(folder)).tensors) == (task == "question_answering")


def test_an_exported_regression_answers_in_the_unit_of_the_data(tmp_path, capsys):
    run, flat = finished_text(tmp_path, "regression", ())
    tensors = weights.open_weights(str(exported(run, capsys))).tensors
    np.testing.assert_allclose(tensors["classifier.weight"], 1.5 * flat["head/kernel"].T, rtol=1e-6)
    np.testing.assert_allclose(tensors["classifier.bias"], 1.5 * flat["head/bias"] + 2.5, rtol=1e-6)


def test_embeddings_are_a_directory_of_sentence_transformers_that_is_pooled_again(tmp_path, capsys):
    for pool in ("mean", "first"):
        folder = exported(finished_text(tmp_path / pool, "sentence_embedding", (), pool=pool)[0], capsys)
        assert [module["path"] for module in files.read_json(folder / "modules.json")] == ["", "1_Pooling"]
        pooling = files.read_json(folder / "1_Pooling" / "config.json")
        assert (pooling["pooling_mode_mean_tokens"], pooling["pooling_mode_cls_token"]) == (pool == "mean", pool == "first")
        assert files.read_json(folder / "sentence_bert_config.json")["max_seq_length"] == 12
        held = weights.recognise(weights.open_weights(str(folder)))
        assert models.for_output(held.family, held.options, "embedding")["pool"] == pool


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("classification", {"pool": "mean"}, "transformers' BERT for texts has no pool 'mean' with a head 'linear'; allowed: model.pool='pooler'"),
        ("sentence_embedding", {"pool": "pooler"}, "sentence-transformers has no pooling 'pooler'; allowed: model.pool='mean' or 'first'"),
        ("classification", {"segments": 0, "pool": "first", "head": "relu", "epsilon": 1e-6}, "DistilBERT has epsilon 1e-12 only; this model's is 1e-06"),
        ("classification", {"position_offset": 2, "pool": "first", "head": "tanh"}, "the tokenizer pads with 0, but RoBERTa counts positions from its padding"),
    ],
)
def test_what_transformers_has_no_class_for_is_refused_and_nothing_is_written(task, options, message, tmp_path, capsys):
    run, _ = finished_text(tmp_path, task, () if task == "sentence_embedding" else ("a", "b"), **options)
    assert message in refusal(run, capsys)
    assert not (run / "hf").exists()


def test_what_transformers_will_do_otherwise_is_said(tmp_path, capsys):
    run, _ = finished_text(tmp_path)
    described = files.read_json(run / "model" / "model.json")
    changed = {"max_length": 12, "truncation": "left", "views": "flip"}
    files.write_json(run / "model" / "model.json", described | {"preprocessing": changed})
    assert main.main(["export", "--workdir", str(run), "--output", str(run / "hf")]) == 0
    assert capsys.readouterr().err == (
        "warning: the run answered by evaluation.views='flip'; transformers sees every picture once, so its answers differ\n"
        "warning: the run cut long texts by text.truncation='left'; transformers cuts their end\n"
    )


def test_refusals_of_the_command_say_what_is_missing(tmp_path, capsys):
    assert "holds no finished run" in refusal(tmp_path, capsys)
    run, _ = finished_text(tmp_path / "run")
    assert "--config.* has no meaning here" in refusal(run, capsys, "--config.seed=1")
    (run / "hf").mkdir()
    (run / "hf" / "something").write_text("")
    assert "is there already; allowed: an empty or a new directory" in refusal(run, capsys)
    shutil.rmtree(run / "hf")
    (run / "model" / "tokenizer.json").unlink()
    assert "is a text model without tokenizer.json" in refusal(run, capsys)


@pytest.mark.parity
def test_transformers_tokenizes_as_the_run_did(tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    folder = exported(finished_text(tmp_path)[0], capsys)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = tokenizers.Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    found = theirs(["a good film", "not"], ["bad", "a"], padding=True, truncation=True)
    expected = [ours.encode(*pair) for pair in (("a good film", "bad"), ("not", "a"))]
    assert [row[: len(one.ids)] for row, one in zip(found["input_ids"], expected)] == [one.ids for one in expected]
    assert [row[: len(one.ids)] for row, one in zip(found["token_type_ids"], expected)] == [one.type_ids for one in expected]
    assert theirs.model_max_length == 12
    assert len(theirs("good " * 50, truncation=True)["input_ids"]) == 12


@pytest.mark.parametrize(
    ("key", "value", "said"), [("num_attention_heads", 4, "heads"), ("layer_norm_eps", 1e-5, "epsilon"), ("hidden_act", "relu", "activation")]
)
def test_a_configuration_that_says_something_else_than_the_weights_is_not_called_written(tmp_path, capsys, monkeypatch, key, value, said):
    save = weights.save_hugging_face

    def careless(folder, *arguments, **more):
        save(folder, *arguments, **more)
        files.write_json(folder / "config.json", files.read_json(folder / "config.json") | {key: value})

    monkeypatch.setattr(weights, "save_hugging_face", careless)
    run, _ = finished_text(tmp_path)
    assert f"its config.json describes another model than was written: {said}\n" in refusal(run, capsys)
