"""README.md of an exported model: a model card in the form of the Hugging Face hub, from what the run directory says.

The card claims nothing that was not measured: a metric, baseline or origin that is not known is not there.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from ftjax.files import read_json, write_text
from ftjax.reporting import findings, plan_tables, wording
from ftjax.reporting.record import Run, listing, mapping, read_run

PIPELINES = {"classification": "image-classification"}
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")
MOST_CLASSES = 60


def escape(value: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(wording.printable(value).split()))


def code(value: object) -> str:
    """Text as inline code, with a fence longer than any run of backticks in it."""
    text = " ".join(wording.printable(value).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}".replace("|", "\\|")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """A Markdown table of cells that are escaped already; columns in `numeric` are aligned to the right."""
    rule = ["--:" if place in numeric else "---" for place in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (list(columns), rule, *rows))


def _front_matter(result: Mapping[str, Any], model: str, name: str, source: Any, license_name: str) -> str:
    """YAML between dashes; every string is written as JSON, which YAML reads."""
    task = str(result.get("task", "classification"))
    test = mapping(mapping(result.get("splits")).get("test"))
    lines = ["library_name: ftjax", f"license: {json.dumps(license_name)}"]
    if task in PIPELINES:
        lines.append(f"pipeline_tag: {PIPELINES[task]}")
    lines.append("tags: " + json.dumps(["ftjax", "jax", "flax", "fine-tuned", task]))
    if isinstance(source, str) and source.startswith("hf://"):
        lines.append(f"base_model: {json.dumps(source.removeprefix('hf://'))}")
    values = {metric: value for metric, found in test.items() if (value := wording.entry(found)["value"]) is not None and math.isfinite(value)}
    if values:
        metrics = [{"type": metric, "value": round(value, 6)} for metric, value in values.items()]
        results = [{"task": {"type": PIPELINES.get(task, task)}, "dataset": {"name": name, "type": name, "split": "test"}, "metrics": metrics}]
        lines += [
            "metrics: " + json.dumps(list(values)),
            "model-index: " + json.dumps([{"name": f"{model} fine-tuned on {name}", "results": results}], ensure_ascii=False),
        ]
    return "\n".join(["---", *lines, "---"])


def _results(result: Mapping[str, Any]) -> str:
    """This run beside its baselines, then every other metric."""
    test = mapping(mapping(result.get("splits")).get("test"))
    if not test:
        return "The test set was not evaluated."
    rows = (
        [["**this model**", f"**{wording.metric('accuracy', wording.entry(test['accuracy'])['value'])}**", wording.bounds("accuracy", test["accuracy"]), ""]]
        if "accuracy" in test
        else []
    )
    for name, baseline in mapping(result.get("baselines")).items():
        found = mapping(baseline).get("accuracy")
        rows.append(
            [
                escape(wording.title(str(name)).lower()),
                wording.metric("accuracy", wording.entry(found)["value"]),
                wording.bounds("accuracy", found),
                escape(mapping(baseline).get("why") or ""),
            ]
        )
    others = [
        [escape(wording.title(name)), wording.metric(name, wording.entry(found)["value"]), wording.bounds(name, found)]
        for name, found in test.items()
        if name != "accuracy"
    ]
    parts = [table(["", "test accuracy", "interval", "how"], rows, (1, 2))] if rows else []
    parts += [table(["other test metrics", "value", "interval"], others, (1, 2))] if others else []
    return "\n\n".join(parts)


def _origin(load: Mapping[str, Any]) -> str:
    """What it was fine-tuned from."""
    if not load.get("source"):
        return "Trained from scratch, or the origin of its weights was not recorded."
    counts = ", ".join(f"{wording.count(value)} {escape(name)}" for name, value in mapping(load.get("summary")).items())
    lines = [f"Weights {code(load['source'])} ({escape(load.get('format', 'unknown format'))}), SHA-256 {code(load.get('sha256', 'unknown'))}."]
    return "\n".join([*lines, f"Of its weights: {counts}."] if counts else lines)


def _data(data: Mapping[str, Any]) -> str:
    """Rows of every split, classes, and what was left out."""
    splits = [[escape(name), wording.count(mapping(split).get("rows"))] for name, split in mapping(data.get("splits")).items()]
    if not splits:
        return "The data were not recorded."
    classes = [code(name) for name in listing(data.get("classes"))]
    shown = ", ".join(classes[:MOST_CLASSES]) + (f" and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else "")
    left_out = len(listing(data.get("rejected")))
    source, fingerprint = PurePath(str(data.get("source", "unknown"))).name, data.get("fingerprint", "unknown")
    facts = [f"Source {code(source)}, images of {wording.shape(data.get('image_size'))} pixels, fingerprint {code(fingerprint)}."]
    facts += [f"{left_out} file{'s' if left_out != 1 else ''} could not be used and {'are' if left_out != 1 else 'is'} not in it."] if left_out else []
    return "\n\n".join([table(["split", "rows"], splits, (1,)), f"{len(classes)} classes: {shown}.", " ".join(facts)])


def _method(result: Mapping[str, Any], run: Run) -> str:
    """Method, length, and the coefficient of every group."""
    parameters = mapping(result.get("parameters"))
    length = f"{wording.count(result.get('steps'))} steps, {wording.count(result.get('examples'))} examples"
    text = f"{escape(wording.method(result.get('method', 'unknown')))}, {length}, seed {result.get('seed', 'unknown')}."
    if parameters.get("total"):
        text += f" {wording.count(parameters.get('live'))} of {wording.count(parameters['total'])} parameters were trained."
    anchors = plan_tables.anchors(run.settings)
    if anchors:
        text += f" Anchored to the pretrained weights by {', '.join(anchors)}."
    text += _weights(result)
    groups = plan_tables.coefficients(run)["groups"]
    rows = [[code(row["name"]), row["parameters"], row["live"], *row["moments"]] for row in groups]
    note = "How far one step may move each group, relative to the learning rate (the fine-tuning coefficient):"
    return "\n\n".join([text, note, table(["group", "parameters", "trained", "start", "half way", "end"], rows, (1, 3, 4, 5))] if rows else [text])


def _weights(result: Mapping[str, Any]) -> str:
    """Which weights of the run these are, chosen on the validation split."""
    instead, best = findings.chosen(mapping(result.get("after"))), result.get("best_step")
    if instead:
        return f" {escape(instead)}" + (f" The best checkpoint is that of step {wording.count(best)}." if best is not None else "")
    return f" The checkpoint of step {wording.count(best)} is the best on the validation split and is the one here." if best is not None else ""


def _limits(result: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """What the reader must not conclude."""
    limits = [
        f"It knows {len(listing(data.get('classes'))) or 'the listed'} classes and nothing else: any image gets one of them.",
        "The intervals say how much another test set of the same origin would change the figures. They say nothing about images from elsewhere.",
        "Confidences were measured on the test split only; see the calibration error (ECE) above before using them as probabilities.",
    ]
    forgotten = findings.forgetting(mapping(result.get("forgetting")))
    limits += [escape(forgotten)] if forgotten else []
    limits += [escape(warning) for warning in listing(result.get("warnings"))]
    return "\n".join(f"- {limit}" for limit in limits)


def _usage(workdir: str) -> str:
    named = " ".join(wording.printable(workdir).split())
    return "\n".join(
        [
            "```bash",
            f"python -m ftjax.main predict --workdir {shlex.quote(named)} --input photos/ --output predictions.jsonl",
            "```",
            "",
            "```python",
            "import ftjax",
            "",
            f"predictions = ftjax.load({json.dumps(named, ensure_ascii=False)}).predict(images)",
            "```",
        ]
    )


def card(
    result: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    load: Mapping[str, Any] | None = None,
    coefficients: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    spec: Mapping[str, Any] | None = None,
    license_name: str = "unknown",
    workdir: str = "runs/x",
) -> str:
    """The card as Markdown.

    Args:
      result: content of result.json.
      data: content of data.json.
      load: content of load.json.
      coefficients: content of coefficients.json.
      config: content of config.json.
      spec: the model's ModelSpec as JSON: family, options, num_classes, image_size.
      license_name: of the weights, which follow their source's licence; ftjax cannot know it.
      workdir: the run directory as the examples of use name it.
    """
    data, load = data or {}, load or {}
    run = Run("", config or {}, data, load, coefficients or {}, result, {}, (), {}, {})
    settings = run.settings
    source = mapping(settings.get("model")).get("pretrained") or load.get("source")
    model = mapping(settings.get("model")).get("name") or mapping(spec).get("family") or "model"
    dataset = PurePath(str(mapping(settings.get("data")).get("name") or mapping(settings.get("data")).get("path") or data.get("source") or "unnamed data")).name
    versions = [f"{escape(name)} {escape(version)}" for name, version in mapping(result.get("versions")).items()]
    sections = [
        (f"{escape(model)} fine-tuned on {escape(dataset)}", "\n\n".join(filter(None, [escape(result.get("verdict") or ""), _spec(spec)]))),
        ("Results", _results(result)),
        ("Intended use", f"Sorting images like those of {escape(dataset)} into its classes. Measure it on your own images before relying on it."),
        ("How to use", _usage(workdir)),
        ("Fine-tuned from", _origin(load)),
        ("Data", _data(data)),
        ("Method", _method(result, run)),
        ("Limits", _limits(result, data)),
        ("Versions", ", ".join(versions) + "." if versions else "Not recorded."),
    ]
    body = [f"{'#' if place == 0 else '##'} {heading}\n\n{text}".rstrip() for place, (heading, text) in enumerate(sections)]
    return "\n\n".join([_front_matter(result, str(model), dataset, source, license_name), *body]) + "\n"


def _spec(spec: Mapping[str, Any] | None) -> str:
    """One line of what the model is."""
    if not spec:
        return ""
    options = ", ".join(f"{escape(name)} {escape(wording.value(value))}" for name, value in mapping(spec.get("options")).items())
    family = code(spec.get("family", "unknown")) + (f" ({options})" if options else "")
    return f"Family {family}, input of {wording.shape(spec.get('image_size'))} pixels, {wording.count(spec.get('num_classes'))} classes."


def _exported_spec(path: Path) -> Mapping[str, Any] | None:
    """The ModelSpec of model.json, where the artefact has one already."""
    return mapping(mapping(read_json(path)).get("spec")) if path.is_file() else None


def write_card(workdir: str | Path, *, spec: Mapping[str, Any] | None = None, license_name: str = "unknown") -> Path:
    """Write `model/README.md` of a run directory.

    Args:
      workdir: the run directory.
      spec: the model's ModelSpec as JSON; None: that of model/model.json.
      license_name: of the weights.

    Raises:
      CheckpointError: `workdir` is no directory or holds no file of a run.
      OSError: the card cannot be written.
    """
    run = read_run(workdir)
    path = Path(workdir) / "model" / "README.md"
    spec = spec if spec is not None else _exported_spec(path.with_name("model.json"))
    write_text(path, card(run.result, run.data, run.load, run.coefficients, run.config, spec=spec, license_name=license_name, workdir=f"runs/{run.name}"))
    return path
