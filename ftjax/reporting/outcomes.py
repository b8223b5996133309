"""What a run gets wrong where its answers are not classes: figures, tables and examples of each other task, from evaluation/test.json and test.npz.

Every function takes a `Run` and gives `{"figures", "tables", "shown"}`; the template lays them out alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.reporting import examples, figures, recommendation, text_figures, wording
from ftjax.reporting.record import Run, listing, mapping

LONGEST = 60
COUNTS = ("support", "predicted", "right")
Cell = tuple[str, Any]
"""What is shown, and what the table is sorted by."""


def _figure(title: str, svg: Any, caption: str) -> list[dict[str, Any]]:
    return [{"title": title, "svg": svg, "caption": caption}] if svg else []


def _table(title: str, note: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[dict[str, Any]]:
    """A sortable table whose first column is a name and whose others are numbers."""
    return [{"title": title, "note": note, "columns": list(columns), "rows": [list(row) for row in rows]}] if rows else []


def _shown(title: str, note: str, kind: str, items: Sequence[Any]) -> list[dict[str, Any]]:
    """Examples; `kind` names the macro that lays them out."""
    return [{"title": title, "note": note, "kind": kind, "examples": list(items)}] if items else []


def _share(part: float, whole: float) -> Cell:
    value = part / whole if math.isfinite(part) and whole > 0 else None
    return wording.percent(value), -1 if value is None else value


def _counted(value: float) -> Cell:
    return (wording.count(value), value) if math.isfinite(value) else ("–", -1)


def _number(value: Any) -> float:
    """A count, or nan where there is none."""
    return float(value) if wording.is_finite(value) else math.nan


def counts_table(items: Any, title: str, what: str) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each label or entity type, the most frequent first.

    Args:
      items: `{"name", "support", "predicted", "right"}`.
      title: of the table.
      what: heading of its first column.
    """
    found = [mapping(item) for item in listing(items)]
    counted = [(figures.short(item.get("name", ""), LONGEST), [_number(item.get(key)) for key in COUNTS]) for item in found]
    counted.sort(key=lambda row: -row[1][0] if math.isfinite(row[1][0]) else 1)
    rows = [
        [(name, name), *map(_counted, counts), _share(counts[2], counts[1]), _share(counts[2], counts[0]), _share(2 * counts[2], counts[0] + counts[1])]
        for name, counts in counted
    ]
    return _table(title, "the most frequent first", [what, "In the test set", "Predicted", "Right", "Precision", "Recall", "F1"], rows)


def regression(run: Run) -> dict[str, Any]:
    """Predicted against true, residuals, and the rows that are furthest off."""
    label, prediction = (np.asarray(run.records.get(name, ()), float) for name in ("label", "prediction"))
    if len(label) != len(prediction):
        label = prediction = np.zeros(0)
    kept = np.asarray(run.records["weight"]) > 0 if len(run.records.get("weight", ())) == len(label) else np.ones(len(label), bool)
    # The largest float32 stands for a prediction that was not finite.
    kept &= np.abs(prediction) < float(np.finfo(np.float32).max)
    label, prediction = label[kept], prediction[kept]
    more = f" {wording.count(text_figures.MOST_POINTS)} of {wording.count(len(label))} examples." if len(label) > text_figures.MOST_POINTS else ""
    return {
        "figures": [
            *_figure(
                "Predicted against true", text_figures.scatter(label, prediction), f"One dot for each test example; a perfect model lies on the line.{more}"
            ),
            *_figure(
                "Residuals", text_figures.residuals(label, prediction), "How many test examples are off by how much. Left of zero the model said too little."
            ),
        ],
        "tables": [],
        "shown": _shown("Furthest off", "largest residuals of the test set", "cards", examples.cards(run.test.get("errors"))),
    }


def multi_label(run: Run) -> dict[str, Any]:
    """A table per label, and the surest mistakes."""
    classes = [wording.printable(name) for name in listing(run.data.get("classes"))]
    return {
        "figures": [],
        "tables": counts_table(run.test.get("labels"), "Every label", "Label"),
        "shown": _shown("Worst errors", "where a label is wrong that the model was sure of", "cards", examples.cards(run.test.get("errors"), classes)),
    }


def token_classification(run: Run) -> dict[str, Any]:
    """A table per entity type, or per tag where tags mark no entities, and sentences with wrong ones."""
    tables = counts_table(run.test.get("entities"), "Every entity type", "Type") + counts_table(run.test.get("labels"), "Every tag", "Tag")
    shown = _shown("Sentences with wrong tags", "those the model was most wrong about first", "sentences", examples.sentences(run.test.get("errors")))
    return {"figures": [], "tables": tables, "shown": shown}


def question_answering(run: Run) -> dict[str, Any]:
    """Questions whose answer is not the expected one."""
    items = examples.answers(run.test.get("errors"))
    return {"figures": [], "tables": [], "shown": _shown("Wrong answers", "the surest first", "answers", items)}


def sentence_embedding(run: Run) -> dict[str, Any]:
    """Every metric of this run beside its baselines, and texts whose partner was not found."""
    contestants = {"This run": mapping(mapping(run.result.get("splits")).get("test"))}
    contestants |= {wording.baseline(name, run.task): mapping(found) for name, found in mapping(run.result.get("baselines")).items()}
    metrics = [name for name in contestants["This run"] if all(name in found for found in contestants.values())]
    rows = [[(name, name), *(_metric(metric, found[metric]) for metric in metrics)] for name, found in contestants.items()]
    items = examples.partners(run.test.get("errors"))
    return {
        "figures": [],
        "tables": _table(
            "Retrieval", "each text of a pair looks for its partner among those of the test set", ["", *map(wording.title, metrics)], rows if metrics else []
        ),
        "shown": _shown("Partner not found first", "furthest down the list first", "cards", items),
    }


def _metric(name: str, value: Any) -> Cell:
    found = wording.entry(value)["value"]
    return wording.with_interval(name, value), -1 if found is None else found


OTHERS: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "regression": regression,
    "multi_label": multi_label,
    "token_classification": token_classification,
    "question_answering": question_answering,
    "sentence_embedding": sentence_embedding,
    "recommendation": recommendation.outcome,
}
"""Every task but classification, which has a confusion matrix (`mistakes.py`)."""
