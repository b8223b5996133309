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
from ftjax.reporting import findings, plan_tables, texts, wording
from ftjax.reporting.record import Run, listing, main_metric, mapping, read_run
from ftjax.reporting.sections import data_name

PIPELINES = {
    "classification": "text-classification",
    "multi_label": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "sentence_embedding": "sentence-similarity",
    "language_modeling": "text-generation",
    "preference": "text-generation",
}
"""What the hub calls our tasks of text; it has no name for regression of its own."""

USES = {
    "classification": "Sorting {what} like those of {data} into its classes.",
    "multi_label": "Finding which of the labels of {data} fit {what} like its own.",
    "regression": "Estimating the value that {data} gives to {what}.",
    "token_classification": "Marking the entities of {data} in sentences like its own.",
    "question_answering": "Finding the answer to a question in a text, for questions and texts like those of {data}.",
    "sentence_embedding": "Comparing {what} like those of {data} by their embeddings.",
    "language_modeling": "Writing {what} like those of {data}.",
    "preference": "Answering as the preferred {what} of {data} do.",
}
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


def _pipeline(run: Run) -> str:
    """The hub's name of the task."""
    return PIPELINES.get(run.task, run.task) if run.of_text else "image-classification" if run.task == "classification" else run.task


def _front_matter(run: Run, model: str, name: str, source: Any, license_name: str) -> str:
    """YAML between dashes; every string is written as JSON, which YAML reads."""
    test = mapping(mapping(run.result.get("splits")).get("test"))
    lines = ["library_name: ftjax", f"license: {json.dumps(license_name)}"]
    if _pipeline(run) in (*PIPELINES.values(), "image-classification"):
        lines.append(f"pipeline_tag: {_pipeline(run)}")
    lines.append("tags: " + json.dumps(["ftjax", "jax", "flax", "fine-tuned", run.task]))
    if isinstance(source, str) and source.startswith("hf://"):
        lines.append(f"base_model: {json.dumps(source.removeprefix('hf://'))}")
    values = {metric: value for metric, found in test.items() if (value := wording.entry(found)["value"]) is not None and math.isfinite(value)}
    if values:
        metrics = [{"type": metric, "value": round(value, 6)} for metric, value in values.items()]
        results = [{"task": {"type": _pipeline(run)}, "dataset": {"name": name, "type": name, "split": "test"}, "metrics": metrics}]
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
    main = main_metric(result).name
    rows = [["**this model**", f"**{wording.metric(main, wording.entry(test[main])['value'])}**", wording.bounds(main, test[main]), ""]] if main in test else []
    for name, baseline in mapping(result.get("baselines")).items():
        found = mapping(baseline).get(main)
        called = wording.in_sentence(wording.baseline(name, str(result.get("task"))))
        how = escape(mapping(baseline).get("why") or "")
        rows.append([escape(called), wording.metric(main, wording.entry(found)["value"]), wording.bounds(main, found), how])
    others = [
        [escape(wording.title(name)), wording.metric(name, wording.entry(found)["value"]), wording.bounds(name, found)]
        for name, found in test.items()
        if name != main
    ]
    parts = [table(["", f"test {wording.in_sentence(wording.title(main))}", "interval", "how"], rows, (1, 2))] if rows else []
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
    more = f" and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
    shown = f"{len(classes)} classes: {', '.join(classes[:MOST_CLASSES])}{more}." if classes else ""
    left_out = len(listing(data.get("rejected")))
    source, fingerprint = PurePath(str(data.get("source", "unknown"))).name, data.get("fingerprint", "unknown")
    pixels = f", images of {wording.shape(data['image_size'])} pixels" if data.get("image_size") else ""
    columns = ", ".join(f"{escape(role)} from column {code(name)}" for role, name in texts.bound(data))
    thing = "row" if columns else "file"
    facts = [f"Source {code(source)}{pixels}, fingerprint {code(fingerprint)}."] + ([f"Columns: {columns}."] if columns else [])
    facts += [f"{left_out} {thing}{'s' if left_out != 1 else ''} could not be used and {'are' if left_out != 1 else 'is'} not in it."] if left_out else []
    return "\n\n".join(filter(None, [table(["split", "rows"], splits, (1,)), shown, " ".join(facts)]))


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
    instead, best = findings.chosen(mapping(result.get("after")), main_metric(result).name), result.get("best_step")
    if instead:
        return f" {escape(instead)}" + (f" The best checkpoint is that of step {wording.count(best)}." if best is not None else "")
    return f" The checkpoint of step {wording.count(best)} is the best on the validation split and is the one here." if best is not None else ""


def _limits(run: Run) -> str:
    """What the reader must not conclude."""
    result, data = run.result, run.data
    what = "texts" if run.of_text else "images"
    limits = [f"The intervals say how much another test set of the same origin would change the figures. They say nothing about {what} from elsewhere."]
    if run.task == "classification":
        known, one = len(listing(data.get("classes"))) or "the listed", what.removesuffix("s")
        limits.insert(0, f"It knows {known} classes and nothing else: any {one} gets one of them.")
        limits.append("Confidences were measured on the test split only; see the calibration error (ECE) above before using them as probabilities.")
    longest = texts.max_length(run)
    limits += [f"It reads {wording.count(longest)} tokens of an example and nothing after them."] if longest else []
    forgotten = findings.forgetting(mapping(result.get("forgetting")))
    limits += [escape(forgotten)] if forgotten else []
    limits += [escape(warning) for warning in listing(result.get("warnings"))]
    return "\n".join(f"- {limit}" for limit in limits)


def _usage(run: Run, workdir: str) -> str:
    named = " ".join(wording.printable(workdir).split())
    files = "--input new.csv --output predictions.csv" if run.of_text else "--input photos/ --output predictions.jsonl"
    pair = any(role == "text_pair" for role, _ in texts.bound(run.data))
    examples = "images" if not run.of_text else '[("a text", "and its pair")]' if pair else '["a text", "another one"]'
    return "\n".join(
        [
            "```bash",
            f"python -m ftjax.main predict --workdir {shlex.quote(named)} {files}",
            "```",
            "",
            "```python",
            "import ftjax",
            "",
            f"predictions = ftjax.load({json.dumps(named, ensure_ascii=False)}).predict({examples})",
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
    dataset = data_name(run)
    versions = [f"{escape(name)} {escape(version)}" for name, version in mapping(result.get("versions")).items()]
    sections = [
        (f"{escape(model)} fine-tuned on {escape(dataset)}", "\n\n".join(filter(None, [escape(result.get("verdict") or ""), _spec(spec)]))),
        ("Results", _results(result)),
        ("Intended use", _use(run, escape(dataset))),
        ("How to use", _usage(run, workdir)),
        ("Fine-tuned from", _origin(load)),
        ("Data", _data(data)),
        ("Method", _method(result, run)),
        ("Limits", _limits(run)),
        ("Versions", ", ".join(versions) + "." if versions else "Not recorded."),
    ]
    body = [f"{'#' if place == 0 else '##'} {heading}\n\n{text}".rstrip() for place, (heading, text) in enumerate(sections)]
    return "\n\n".join([_front_matter(run, str(model), dataset, source, license_name), *body]) + "\n"


def _use(run: Run, dataset: str) -> str:
    """What it is for."""
    what = "texts" if run.of_text else "images"
    use = USES.get(run.task, "Predicting what {data} holds for {what} like its own.")
    return f"{use.format(what=what, data=dataset)} Measure it on your own {what} before relying on it."


def _spec(spec: Mapping[str, Any] | None) -> str:
    """One line of what the model is."""
    if not spec:
        return ""
    options = ", ".join(f"{escape(name)} {escape(wording.value(value))}" for name, value in mapping(spec.get("options")).items())
    family = code(spec.get("family", "unknown")) + (f" ({options})" if options else "")
    pixels = f", input of {wording.shape(spec['image_size'])} pixels" if spec.get("image_size") else ""
    return f"Family {family}{pixels}, {wording.count(spec.get('num_classes'))} {'classes' if pixels else 'outputs'}."


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
