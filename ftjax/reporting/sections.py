"""What the top of report.html says: header, headline against the baselines, training curves, and where the run came from.

Each function takes a `Run` and gives the plain values its part of the template shows; missing files give shorter values, not errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ftjax.reporting import plots, wording
from ftjax.reporting.charts import nice_ticks
from ftjax.reporting.figures import coefficients
from ftjax.reporting.record import MainMetric, Run, listing, mapping

VERDICTS = {
    "failed": "The run failed; what was written before is below.",
    "interrupted": "The run was interrupted; the same command continues it.",
    "unfinished": "The run has not finished; the same command continues it.",
    "ok": "The run ended well; no verdict was recorded.",
}


def _name_of(path: Any) -> str:
    """The last part of a path or `hf://owner/name`: enough to recognise it."""
    return PurePath(str(path)).name or str(path)


def model_name(run: Run) -> str:
    """The model's name, or its weights'."""
    model = mapping(run.settings.get("model"))
    named = model.get("name") or model.get("pretrained") or run.load.get("source")
    return _name_of(named) if named else "a model"


def data_name(run: Run) -> str:
    """The data set's name, or its folder's."""
    data = mapping(run.settings.get("data"))
    path = PurePath(str(data.get("path") or ""))
    # A file of training rows is called train.csv everywhere; its folder says of what.
    folder = path.parent.name if path.suffix and path.stem.lower() in ("train", "training", "data") else ""
    named = data.get("name") or folder or data.get("path") or data.get("source") or run.data.get("source")
    return _name_of(named) if named else "unnamed data"


def has_own_table(run: Run) -> bool:
    """Whether the table of coefficients was written for this run; the method's name would hide it."""
    return mapping(mapping(run.config.get("origins")).get("coefficient.rules")).get("origin") in ("file", "flag")


def header(run: Run) -> dict[str, Any]:
    """Title, status, verdict, error, warnings and the facts under the title."""
    result = run.result
    method = result.get("method") or run.settings.get("method")
    task = result.get("task") or mapping(run.settings.get("task")).get("name")
    method, own = (wording.method(method) if method else None), has_own_table(run)
    told = f"{method}, with a table of its own" if method and own else method
    facts = [("Task", wording.task(task) if task else None), ("Method", told), ("Seed", result.get("seed", run.settings.get("seed")))]
    return {
        "title": f"{method if method and not own else 'Fine-tuning'} of {model_name(run)} on {data_name(run)}{', with its own coefficients' if own else ''}",
        "status": run.status,
        "verdict": result.get("verdict") or VERDICTS.get(run.status, "No verdict was recorded."),
        "error": result.get("error"),
        "warnings": [wording.printable(warning) for warning in listing(result.get("warnings"))],
        "facts": [(label, str(value)) for label, value in facts if value is not None],
        "run": run.name,
    }


def _contestants(run: Run, name: str) -> list[dict[str, Any]]:
    """This run and every baseline with a test result, as (label, entry)."""
    test = mapping(mapping(run.result.get("splits")).get("test"))
    rows = [{"label": "This run", "mine": True, "entry": wording.entry(test.get(name)), "why": ""}]
    for key, baseline in mapping(run.result.get("baselines")).items():
        found = mapping(baseline)
        rows.append({"label": wording.baseline(key, run.task), "mine": False, "entry": wording.entry(found.get(name)), "why": str(found.get("why") or "")})
    return rows


def headline(run: Run) -> dict[str, Any]:
    """The dot-and-interval chart (positions in percent of its width), the tiles and the table of metrics."""
    name = run.metric.name
    rows = _contestants(run, name)
    drawn = [row for row in rows if wording.is_finite(row["entry"]["value"])]
    domain = _domain([row["entry"] for row in drawn], share=wording.is_share(name), higher_is_better=run.metric.higher_is_better)
    for row in rows:
        row["text"], row["bounds"] = wording.metric(name, row["entry"]["value"]), wording.bounds(name, row["entry"])
        row["place"] = {key: _place(value, domain) for key, value in row["entry"].items() if wording.is_finite(value)} if row in drawn else {}
        row["beyond"] = "" if not row["place"] or 0 <= row["place"]["value"] <= 100 else "low" if row["place"]["value"] < 0 else "high"
    ticks = nice_ticks(*domain, 5) if drawn else []
    confidence = mapping(run.settings.get("evaluation")).get("confidence")
    return {
        "metric": wording.in_sentence(wording.title(name)),
        "rows": rows if drawn else [],
        "ticks": [{"place": _place(tick, domain), "text": _tick(name, tick)} for tick in ticks],
        "confidence": wording.percent(confidence, 0) if wording.is_number(confidence) else "",
        "tiles": tiles(run),
        "metrics": _metric_table(run),
        "reason": "" if drawn else "There is no test result: the test set is evaluated once, at the end of a run.",
    }


def _tick(name: str, value: float) -> str:
    return wording.percent(value, 0) if wording.is_share(name) else wording.number(value)


def _ends(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Lowest and highest value or bound."""
    finite = [value for entry in entries for value in entry.values() if wording.is_finite(value)] or [0.0, 1.0]
    return min(finite), max(finite)


def _domain(entries: Sequence[Mapping[str, Any]], *, share: bool, higher_is_better: bool) -> tuple[float, float]:
    """The chart's range: every interval with a little room, for shares never past 0 or 1.

    One entry so much worse than the rest that it would squeeze them to under half the width (the majority class, mostly) stays outside and is drawn as an
    arrow.
    """
    low, high = _ends(entries)
    kept = sorted(entries, key=lambda entry: entry["value"], reverse=not higher_is_better)[1:]
    if len(kept) > 1 and _ends(kept)[1] - _ends(kept)[0] < 0.5 * (high - low):
        low, high = _ends(kept)
    room = 0.06 * (high - low) or 0.05
    low, high = low - room, high + room
    return (max(0.0, low), min(1.0, high)) if share else (low, high)


def _place(value: float | None, domain: tuple[float, float]) -> float:
    low, high = domain
    return round(100 * ((value or 0.0) - low) / (high - low), 2)


def _metric_table(run: Run) -> list[dict[str, str]]:
    """Every metric: on the test split with its interval, and on validation."""
    splits = mapping(run.result.get("splits"))
    test, validation = mapping(splits.get("test")), mapping(splits.get("validation"))
    return [
        {
            "name": wording.title(name),
            "test": wording.metric(name, wording.entry(test.get(name))["value"]),
            "bounds": wording.bounds(name, test.get(name)),
            "validation": wording.metric(name, wording.entry(validation.get(name))["value"]),
        }
        for name in dict.fromkeys([*test, *validation])
    ]


def tiles(run: Run) -> list[tuple[str, str, str]]:
    """(label, value, note) of the figures a reader asks for first; only those that are known."""
    result = run.result
    parameters = mapping(result.get("parameters")) or mapping(run.coefficients.get("parameters"))
    seconds = mapping(result.get("seconds"))
    total = sum(value for value in seconds.values() if wording.is_finite(value))
    found = []
    if parameters.get("total"):
        share = wording.percent(parameters.get("live", 0) / parameters["total"], 0)
        found.append(("Trained parameters", wording.compact(parameters.get("live")), f"{share} of {wording.compact(parameters['total'])}"))
    if "steps" in result:
        seen = f"{wording.count(result['examples'])} examples seen" if "examples" in result else ""
        found.append(("Steps", wording.count(result["steps"]), seen))
    if result.get("best_step") is not None:
        found.append(("Best checkpoint", f"step {wording.count(result['best_step'])}", "picked on validation"))
    if seconds:
        trained = f"{wording.duration(seconds['train'])} training" if "train" in seconds else ""
        found.append(("Time", wording.duration(total), trained))
    if "examples_per_second" in result:
        wait = result.get("input_wait_fraction")
        found.append(
            (
                "Examples per second",
                wording.count(result["examples_per_second"]),
                f"{wording.percent(wait)} waiting for data" if wording.is_number(wait) else "",
            )
        )
    return found


def training(run: Run) -> dict[str, Any]:
    """The curves, each with a title and a caption; only those the log can draw."""
    metric = _followed(run)
    figures = [
        ("Loss", "Mean over the examples of a batch; validation without augmentation.", plots.loss_curves(run.metrics, run.borders)),
        (
            f"Validation {wording.in_sentence(wording.title(metric.name))}",
            "Picks the best checkpoint." if metric == run.metric else "Of the validation split.",
            plots.validation_curve(run.metrics, metric, run.result.get("best_step"), run.borders),
        ),
        (
            "Coefficient",
            "How far one step may move each group, relative to the learning rate; half way through the run.",
            coefficients(group_coefficients(run)),
        ),
        ("Learning rate", "Before the coefficient of each group.", plots.learning_rate(run.metrics)),
    ]
    shown = [{"title": title, "caption": caption, "svg": drawing} for title, caption, drawing in figures if drawing]
    return {"figures": shown, "lost": lost_steps(run), "reason": "" if shown else "Nothing was logged: the run ended before its first logged step."}


def _followed(run: Run) -> MainMetric:
    """The main metric, or the first logged share where it was not logged."""
    if plots.points(run.metrics, "validation", run.metric.name):
        return run.metric
    logged = next((name for name in plots.metric_names(run.metrics, "validation") if wording.is_share(name)), None)
    return MainMetric(logged, higher_is_better=True) if logged else run.metric


def lost_steps(run: Run) -> int:
    """Steps that were not applied: those the log counts as "skipped", or else logged losses that are not finite."""
    train = [record for record in run.metrics if record.get("split") == "train"]
    skipped = round(sum(record["skipped"] for record in train if wording.is_finite(record.get("skipped"))))
    return skipped or sum(isinstance(record.get("loss"), float) and not math.isfinite(record["loss"]) for record in train)


def group_coefficients(run: Run) -> list[tuple[str, float, float, float]]:
    """(group, lowest, mean weighted by parameters, highest) over a group's leaves and the three moments of coefficients.json."""
    order = dict.fromkeys(str(group) for group in listing(run.coefficients.get("groups")))
    found: dict[str, list[tuple[float, list[float]]]] = {group: [] for group in order}
    for row in (mapping(row) for row in listing(run.coefficients.get("rows"))):
        moments = [value for value in mapping(row.get("coefficient")).values() if wording.is_finite(value)]
        if moments:
            weight = float(row["parameters"]) if wording.is_finite(row.get("parameters")) else 1.0
            found.setdefault(str(row.get("group")), []).append((weight, moments))
    rows = []
    for group, leaves in found.items():
        if leaves:
            every = [value for _, moments in leaves for value in moments]
            weights = sum(weight for weight, _ in leaves) or 1.0
            typical = sum(weight * moments[len(moments) // 2] for weight, moments in leaves) / weights
            rows.append((group, min(every), min(max(typical, min(every)), max(every)), max(every)))
    return rows


def provenance(run: Run) -> dict[str, Any]:
    """Where the time went, the versions, and the files that are missing."""
    seconds = {str(name): value for name, value in mapping(run.result.get("seconds")).items() if wording.is_finite(value) and value >= 0}
    total = sum(seconds.values()) or 1.0
    return {
        "seconds": [{"name": name, "text": wording.duration(value), "share": round(100 * value / total, 2)} for name, value in seconds.items()],
        "versions": [(str(name), str(version)) for name, version in mapping(run.result.get("versions")).items()],
        "notes": list(run.notes.values()),
    }
