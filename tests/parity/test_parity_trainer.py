"""Fifty steps of ours and of Hugging Face's Trainer on the same batches: the same loss at every one of them."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_text import texts, write_bert, write_table

import ftjax
from ftjax.config import CoefficientConfig, Config, DataConfig, ModelConfig, OptimizerConfig, TextConfig, TrainConfig

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
STEPS, BATCH, RATE, DECAY = 50, 16, 2e-3, 0.1
AS_THE_TRAINER_DECAYS = ((".*/(bias|scale)", 0.0), (".*", 1.0))
"""Its mask: everything but biases and norms, the embeddings too."""


@pytest.fixture(scope="module")
def hf():
    """The package transformers with what its Trainer needs, or a skip."""
    pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def ours(hf, tmp_path_factory):
    """The plan, the losses of its steps and the batches that it took."""
    folder = tmp_path_factory.mktemp("trainer")
    # transformers writes the weights once more, so that both start from a directory of its own.
    hf.AutoModelForSequenceClassification.from_pretrained(write_bert(folder / "bert")).save_pretrained(folder / "bert")
    table = write_table(folder / "texts.csv", ("text", "label"), texts(190))
    # 122 training rows are no multiple of the batch: the last batch of an epoch is short.
    config = Config(
        data=DataConfig(source="table", path=str(table), validation_fraction=0.2, test_fraction=0.2, duplicates="report"),
        text=TextConfig(buckets=3, max_length=32),
        model=ModelConfig(pretrained=str(folder / "bert"), head="keep", dropout=0.0),
        coefficient=CoefficientConfig(head_factor=1.0, decay_rules=AS_THE_TRAINER_DECAYS),
        optimizer=OptimizerConfig(learning_rate=RATE, weight_decay=DECAY, schedule="linear", warmup="0 steps", clip_norm=1.0),
        train=TrainConfig(duration=f"{STEPS} steps", batch_size=BATCH),
    )
    plan, state = ftjax.prepare(config)
    batches = [plan.batch(step) for step in range(STEPS)]
    losses = []
    for batch in batches:
        state, metrics = plan.step(state, batch)
        losses.append(float(metrics["loss"]))
    return folder / "bert", np.array(losses), batches


def losses_of_the_trainer(hf, folder, batches, output, **changed):
    """Hugging Face's Trainer over the very batches, padded rows left out; the loss of every step."""
    import torch

    losses = []

    class Recording(hf.Trainer):
        def training_step(self, *arguments, **options):
            loss = super().training_step(*arguments, **options)
            losses.append(float(loss))
            return loss

    options = {"learning_rate": RATE, "weight_decay": DECAY, "max_grad_norm": 1.0, "lr_scheduler_type": "linear", "warmup_steps": 0} | changed
    quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no", "use_cpu": True}
    order = {"num_train_epochs": 1, "per_device_train_batch_size": 1, "train_sampling_strategy": "sequential"}
    names = {"input_ids": "tokens", "attention_mask": "mask", "token_type_ids": "segments", "labels": "label"}
    given = [{name: torch.from_numpy(np.asarray(batch[key], np.int64)[np.asarray(batch["weight"]) > 0]) for name, key in names.items()} for batch in batches]
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder)
    trainer = Recording(
        model=model, args=hf.TrainingArguments(output_dir=str(output), **options, **quiet, **order), train_dataset=given, data_collator=lambda one: one[0]
    )
    trainer.train()
    return np.array(losses)


def test_fifty_steps_have_the_losses_of_hugging_face_trainer(hf, ours, tmp_path):
    folder, losses, batches = ours
    theirs = losses_of_the_trainer(hf, folder, batches, tmp_path)
    assert theirs[:5].mean() - theirs[-5:].mean() > 0.2
    np.testing.assert_allclose(losses, theirs, atol=1e-4, rtol=0)


def test_the_batches_have_several_lengths_and_a_short_one(ours):
    _, _, batches = ours
    assert len({batch["tokens"].shape[1] for batch in batches}) > 1
    assert min(float(np.sum(batch["weight"])) for batch in batches) < BATCH


@pytest.mark.parametrize("changed", [{"weight_decay": 0.0}, {"adam_epsilon": 1e-4}])
def test_another_setting_of_the_trainer_is_told_apart(hf, ours, tmp_path, changed):
    folder, losses, batches = ours
    theirs = losses_of_the_trainer(hf, folder, batches, tmp_path, **changed)
    assert np.abs(losses - theirs).max() > 1e-3
