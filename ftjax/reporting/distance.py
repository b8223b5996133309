"""The part of report.html that says how far the run went: travel of every group, the weights it chose among, what it forgot, and its phases.

Each function takes a `Run` and gives the plain values its part of the template shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftjax.reporting import distance_plots, findings, plots, wording
from ftjax.reporting.record import Run, listing, mapping

TRAVEL = "How far each group is from its pretrained weights, |θ − θ₀| / |θ₀|."
UPDATE = "Relative change of each group's weights in one step."
COSINE = (
    "Direction of one step against the way gone so far. Positive: further away from the pretrained weights; negative: back home; around 0: sideways, "
    "which is also where a step ends up that is mostly noise."
)


def distance(run: Run) -> dict[str, Any]:
    """The curves, the candidates and the phases."""
    order = [str(group) for group in listing(run.coefficients.get("groups"))]
    travel, still = plots.per_group(run.metrics, "travel", order, run.borders)
    update, _ = plots.per_group(run.metrics, "update", order, run.borders)
    cosine, _ = plots.per_group(run.metrics, "cosine", order, run.borders)
    frozen = f" Never moved: {', '.join(still)}." if still else ""
    curve = _curve(run)
    figures = [
        ("Travel", TRAVEL + frozen, travel),
        ("Direction", COSINE, cosine),
        ("Update", UPDATE, update),
        (
            f"{wording.title(distance_plots.curve_metric(curve))} against distance",
            curve_caption(curve),
            distance_plots.distance_curve(curve, findings.candidates(run.after), run.after.get("chosen")),
        ),
        *_forgetting(run),
    ]
    return {
        "figures": [{"title": title, "caption": caption, "svg": drawing} for title, caption, drawing in figures if drawing],
        "phases": phases(run),
        "chosen": findings.chosen(run.after, run.metric.name),
        **_candidates(run),
    }


def _curve(run: Run) -> list[Mapping[str, Any]]:
    return [point for point in listing(run.after.get("curve")) if isinstance(point, Mapping)]


def curve_caption(curve: Sequence[Mapping[str, Any]]) -> str:
    """How to read the curve, and what it says here."""
    best = distance_plots.peak(curve)
    if best is None:
        return ""
    largest = max(point["alpha"] for point in distance_plots.drawable(curve))
    reading = (
        "On validation, along the straight line from the pretrained body (0) through the best checkpoint (1); numbers are shares of the way. "
        "Where it peaks inside, the run went too far."
    )
    if best >= largest:
        return f"{reading} Here it is best at the end: there is no sign of that."
    return f"{reading} Here it is best at {wording.setting(best)}."


def _forgetting(run: Run) -> list[tuple[str, str, Markup]]:
    """Charts of the source examples."""
    reference = mapping(run.result.get("forgetting")).get("reference")
    against = ", against the pretrained model's own answers" if reference == "pretrained answers" else ""
    return [
        (
            "Forgetting: source accuracy",
            "Held-out examples of what the model was pretrained on, answered through its pretrained head; the line is its accuracy before training.",
            distance_plots.source_accuracy(run.metrics, run.borders),
        ),
        (
            "Forgetting: source loss",
            f"Loss on the source examples{against}; the line is its value before training. Divergence: how far the answers are from the pretrained ones, "
            "mean KL(p₀ ‖ p) in nats.",
            distance_plots.source_loss(run.metrics, run.borders),
        ),
    ]


def _candidates(run: Run) -> dict[str, Any]:
    """Rows of what competed; none where nothing but the best checkpoint did."""
    found = findings.candidates(run.after)
    name = findings.chosen_by(found, run.metric.name)
    rows = [
        {
            "name": wording.candidate(item.get("name")),
            "value": wording.metric(name, item.get("value")),
            "distance": wording.number(item.get("distance")),
            "steps": ", ".join(wording.count(step) for step in listing(item.get("steps"))),
            "chosen": item.get("name") == run.after.get("chosen"),
        }
        for item in found
    ]
    return {"candidates": rows if len(rows) > 1 else [], "metric": wording.title(name)}


def phases(run: Run) -> list[dict[str, str]]:
    """A row per phase where there are several."""
    found = run.phases if len(run.phases) > 1 else []
    return [
        {
            "number": str(number),
            "steps": f"{wording.count(phase.get('start'))} – {wording.count(phase.get('stop'))}",
            "parameters": wording.count(phase.get("live_parameters")),
            "groups": ", ".join(wording.printable(group) for group in listing(phase.get("groups"))),
        }
        for number, phase in enumerate(found, start=1)
    ]
