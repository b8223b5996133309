"""The same run by Hugging Face's Trainer: same weights, rows, steps, batch size and optimiser; batches grouped by length and padded to their longest text.

Tokenizing and loading are outside the clock, as they are for ftjax. What the Trainer measures is its own `train()`: batching, collating, steps.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text.data import Row, TextSet, read_written
from benchmarks.text.settings import Settings

LABELS_OF_NOTHING = -100
"""What PyTorch's cross-entropy leaves out."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of either library."""

    metric: float
    train_seconds: float
    compile_seconds: float = 0.0
    setup_seconds: float = 0.0
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


def classes_of(rows: dict[str, list[Row]]) -> tuple[str, ...]:
    """All labels or tags of the training rows, sorted."""
    return tuple(sorted({label for row in rows["train"] for label in row["label"].split("\n")}))


def run(text_set: TextSet, folder: Path, weights: Path, settings: Settings, seed: int) -> Run:
    """Train and test once.

    Args:
      text_set: what is learned.
      folder: where `data.write` put its rows.
      weights: the Hugging Face directory to start from.
      settings: the optimiser.
      seed: of the head, the order and the dropout.
    """
    import transformers

    transformers.set_seed(seed)
    began = time.perf_counter()
    rows = read_written(text_set, folder)
    classes = () if text_set.task == "regression" else classes_of(rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    scale = scale_of(text_set, rows["train"])
    examples = {split: encoded(text_set, rows[split], tokenizer, classes, scale) for split in ("train", "test")}
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(text_set, model_of(text_set, weights, classes, settings), tokenizer, examples["train"], settings, seed, scratch)
        setup = time.perf_counter() - began
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        predicted = trainer.predict(examples["test"])
    return Run(measure(text_set, predicted.predictions, predicted.label_ids, classes), seconds, setup_seconds=setup)


def scale_of(text_set: TextSet, rows: list[Row]) -> tuple[float, float]:
    """Mean and deviation of the training targets of a regression: both libraries learn standardised ones."""
    values = [float(row["label"]) for row in rows] if text_set.task == "regression" else [0.0]
    return float(np.mean(values)), float(np.std(values)) or 1.0


def encoded(text_set: TextSet, rows: list[Row], tokenizer: Any, classes: tuple[str, ...], scale: tuple[float, float] = (0.0, 1.0)) -> list[dict[str, Any]]:
    """Token ids, not padded, and the label: a number, or one for each token (that of a word at its first piece)."""
    if text_set.task == "token_classification":
        return [_encoded_words(text_set, row, tokenizer, classes) for row in rows]
    pairs = [row["text_pair"] for row in rows] if text_set.pair else None
    tokens = tokenizer([row["text"] for row in rows], pairs, truncation=True, max_length=text_set.max_length)
    labels = [(float(row["label"]) - scale[0]) / scale[1] if text_set.task == "regression" else classes.index(row["label"]) for row in rows]
    return [{name: values[index] for name, values in tokens.items()} | {"label": label} for index, label in enumerate(labels)]


def _encoded_words(text_set: TextSet, row: Row, tokenizer: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    tokens = tokenizer(row["text"].split("\n"), is_split_into_words=True, truncation=True, max_length=text_set.max_length)
    words = tokens.word_ids()
    tags = [classes.index(tag) for tag in row["label"].split("\n")]
    first = [word is not None and word not in words[:place] for place, word in enumerate(words)]
    labels = [tags[word] if is_first else LABELS_OF_NOTHING for word, is_first in zip(words, first, strict=True)]
    return dict(tokens.items()) | {"labels": labels}


def model_of(text_set: TextSet, weights: Path, classes: tuple[str, ...], settings: Settings) -> Any:
    """MiniLM with a new head of transformers' own: over the pooler, or over every token."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    auto = transformers.AutoModelForTokenClassification if text_set.task == "token_classification" else transformers.AutoModelForSequenceClassification
    options = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.attention_dropout}
    return auto.from_pretrained(weights, num_labels=len(classes) or 1, **options)


def make_trainer(
    text_set: TextSet, model: Any, tokenizer: Any, examples: list[dict[str, Any]], settings: Settings, seed: int, folder: str, *, grouped: bool = True
) -> Any:
    """A Trainer as its users set it up for texts of different lengths (`grouped`; its default order else), without logging, saving or evaluating."""
    import transformers

    arguments = transformers.TrainingArguments(
        output_dir=folder,
        max_steps=text_set.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=50,
        learning_rate=text_set.rate,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.beta1,
        adam_beta2=settings.beta2,
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.clip_norm,
        lr_scheduler_type="linear",
        warmup_steps=0,
        train_sampling_strategy="group_by_length" if grouped else "random",
        bf16=settings.precision == "bfloat16",
        use_cpu=True,
        seed=seed,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
    )
    words = text_set.task == "token_classification"
    collator = transformers.DataCollatorForTokenClassification(tokenizer) if words else transformers.DataCollatorWithPadding(tokenizer)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=examples, data_collator=collator, processing_class=tokenizer)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def measure(text_set: TextSet, outputs: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> float:
    """The set's metric by the usual libraries: accuracy, Pearson's correlation (scipy), F1 of entities (seqeval)."""
    if text_set.task == "classification":
        return float(np.mean(outputs.argmax(-1) == labels))
    if text_set.task == "regression":
        from scipy import stats

        return float(stats.pearsonr(outputs.reshape(-1), labels.reshape(-1)).statistic)
    import seqeval.metrics

    tagged = labels != LABELS_OF_NOTHING
    both = (labels, outputs.argmax(-1))
    named: Any = [[[classes[index] for index in row[keep]] for row, keep in zip(values, tagged, strict=True)] for values in both]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(seqeval.metrics.f1_score(*named))
