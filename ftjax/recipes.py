"""Fills what the user left open, from the method and the data, and says why.

A method of the configuration is a table of coefficients (`ftjax.tables`), perhaps an anchor, and the numbers that go with them. Every value can be
overridden and shows its origin in config.json. Sources: the papers and the peers' defaults (transformers, timm, big_vision, MAE), collected in
`docs/recipes.md`, and runs of our own where the reason says so.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from ftjax import configuration, tables
from ftjax.config import ADAPTERS, CoefficientConfig, Config
from ftjax.configuration import Resolved
from ftjax.durations import Clock, to_steps


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a recipe may look at: the data, and the depth order of the model."""

    examples: int
    """Training examples after sampling."""
    groups: tuple[str, ...]
    """`("stem", "block_0", ..., "norm", "head")`."""
    photos: bool
    """Whether the images are photos (folders, tfds) rather than arrays such as digits."""
    text: bool
    """Whether the examples are texts."""
    items: bool
    """Whether they are histories of items."""
    metric: str
    """The task's main metric."""
    keeps_head: bool
    """Whether the pretrained head stays."""
    batch_devices: int
    """Devices that share a batch."""
    begins_with: tuple[str, ...] | None = None
    """Parameters that the adapter file of the run brings whole (a head, biases); None: it begins from no such file."""
    steps_of_epoch: Callable[[int, int | None], Fraction] | None = None
    """`steps_of_epoch(batch_size, batch_tokens)` where it is not examples / batch size."""

    def steps_per_epoch(self, config: Config) -> Fraction:
        """Exact steps of an epoch with the configured batches."""
        size = self.examples if config.train.batch_size == "all" else int(config.train.batch_size or 1)
        return self.steps_of_epoch(size, config.train.batch_tokens) if self.steps_of_epoch else Fraction(self.examples, size)

    @property
    def blocks(self) -> list[str]:
        """The groups that are blocks, from the input up."""
        return [group for group in self.groups if group.startswith("block_")]


Suggestion = tuple[Any, str]
"""A value and the reason for it; None leaves the key as it is."""

_LEARNING_RATE = {
    "full": (1e-4, "AdamW on a pretrained image model; transformers' examples use 2e-5 to 5e-5 for ViT-B, smaller models take more"),
    "lp_ft": (1e-4, "as full: after the probe a small rate (Kumar et al. 2022); the probe itself has thirty times as much"),
    "layer_decay": (5e-4, "with layer decay the body is slowed down, so the peak is higher (BEiT and MAE fine-tuning)"),
    "discriminative": (5e-4, "as layer_decay: the body is slowed down, so the peak is higher"),
    "gradual": (1e-4, "as full: in the end everything trains"),
    "bitfit": (1e-3, "ten times full's: biases alone move (1e-3 in BitFit's own example, 1e-5 for full fine-tuning there)"),
    "norms": (1e-3, "as bitfit: few numbers move, and each must move further"),
    "attention": (2e-4, "as partial: fewer parameters move, each may move further"),
    "partial": (2e-4, "fewer parameters move, each may move further"),
    "auto_rgn": (5e-4, "the measured factors are 1 at most and mostly less, so the peak is higher; the paper tunes it from 1e-5 to 1e-1"),
    "l2_sp": (1e-4, "as full: in our pilot the anchored methods were best at full's own rate, and lost less at higher ones"),
    "ball": (1e-4, "as full: in our pilot the anchored methods were best at full's own rate, and lost less at higher ones"),
    "spd": (1e-4, "as full: in our pilot the anchored methods were best at full's own rate, and lost less at higher ones"),
    "mixout": (1e-4, "as full; not measured here"),
    "lora": (1e-3, "ten times full's, which is where it does what full fine-tuning does (Thinking Machines 2025; 4e-4 to 5e-4 in LoRA's own GLUE runs)"),
    "dora": (5e-4, "a little below LoRA's, as DoRA's authors advise; not measured here"),
    "pissa": (2e-4, "both factors are large from the start, so a step moves the weight further than LoRA's; its authors take full's rate"),
    "ia3": (6e-3, "3e-3 in T-Few, for text; 5e-3 was far better than 1e-3 in peft's own comparison"),
    "ssf": (5e-3, "few numbers move, and each must move further; SSF's own runs take 1e-3 to 1e-2, as we remember it; not measured here"),
    "oft": (1e-3, "as lora; not measured here"),
    "adaptformer": (1e-3, "as lora, with AdamW; AdaptFormer's own runs take SGD at 0.05 to 0.1; not measured here"),
    "houlsby": (1e-3, "3e-5 to 3e-3 in Houlsby et al. 2019; not measured here"),
    "prompt": (3e-2, "prompts want large steps: 0.3 with Adafactor in Lester et al. 2021, 3e-2 in peft's examples; not measured here"),
    "vpt": (1e-2, "prompts want large steps: VPT's authors search SGD's up to 50, P-tuning v2 takes 5e-3 to 1e-2; not measured here"),
    "probe": (1e-2, "only the head trains: 10 to 100 times the rate of full fine-tuning"),
    "scratch": (1e-3, "AdamW from random weights (timm and DeiT scale)"),
}

_OPTIMIZER_FACTOR = {
    "adamw": (1.0, ""),
    "sgd": (100.0, "; times 100 for SGD with momentum"),
    "lion": (0.2, "; a fifth for Lion"),
    "muon": (1.0, "; the same for Muon, whose updates are scaled to AdamW's size (Moonlight)"),
    "adafactor": (1.0, "; the same for Adafactor, whose updates have about AdamW's size"),
}

_NEW_HEAD_FACTOR = ("full", "partial", "gradual", "attention", "l2_sp", "ball", "spd", "mixout")
"""Methods whose learning rate is the body's, so that a new head wants more; the others' is already the head's."""

_SET_UNLESS_CHOSEN = ("optimizer.schedule", "coefficient.auto")
"""Keys with a default that is not None which a method may replace while nobody has set them."""


def fill(resolved: Resolved, facts: Facts) -> Resolved:
    """The configuration with every open value filled, and the reason for each as its origin.

    Open is what is None, and what has its default from the schema where the method is defined by another value (`_SET_UNLESS_CHOSEN`).
    What the file or a flag says stays. A file that writes out such a default cannot be told from one that is silent; a flag can.
    """
    config, origins = resolved.config, dict(resolved.origins)
    # In this order, because a later suggestion may look at an earlier value (the duration at the batch size).
    for key, suggest in _SUGGESTIONS.items():
        if _is_open(key, dict(configuration.keys(config))[key], origins):
            value, why = suggest(config, facts)
            if value is not None:
                config = configuration.replace(config, {key: value})
                origins[key] = ("recipe", why)
    return Resolved(config, origins)


def _is_open(key: str, value: Any, origins: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the recipe may fill a key."""
    return value is None or (key in _SET_UNLESS_CHOSEN and origins.get(key, ("default", ""))[0] == "default")


def _batch_size(config: Config, facts: Facts) -> Suggestion:
    if config.train.batch_tokens is not None:
        return None, ""
    most = 128 if facts.items else 32 if facts.text else 64
    size = min(most, max(8, 2 ** int(math.log2(max(facts.examples // 4, 1)))))
    parts = facts.batch_devices * config.train.microbatches
    shared = "" if size % parts == 0 else f", rounded up to share it among {facts.batch_devices} devices and {config.train.microbatches} micro-batches"
    return -(-size // parts) * parts, f"{facts.examples} training examples: at least four steps an epoch, at most {most}{shared}"


def _duration(config: Config, facts: Facts) -> Suggestion:
    batch_size = config.train.batch_size
    per_epoch = float(facts.steps_per_epoch(config)) if batch_size != "all" else 1
    wanted = {"probe": 300, "scratch": 500}.get(config.method, 300)
    fewest, most = (3, 20) if facts.text else (5, 100)
    if facts.items:
        return "50 epochs", "recommenders from scratch are trained for tens to hundreds of passes; train.patience stops earlier"
    epochs = min(most, max(fewest, math.ceil(wanted / max(per_epoch, 1))))
    source = "peers train texts for 3 to 20" if facts.text else "after big_transfer's rule by data size"
    return f"{epochs} epochs", f"about {wanted} optimiser steps, but {fewest} epochs at least and {most} at most ({source})"


def _schedule(config: Config, facts: Facts) -> Suggestion:
    if config.method in ("discriminative", "gradual") and not config.optimizer.schedule_free:
        return "slanted", "ULMFiT's slanted triangle, whose cut is the warmup (a tenth of the run, ratio 32)"
    return None, ""


def _learning_rate(config: Config, facts: Facts) -> Suggestion:
    rate, why = _LEARNING_RATE[config.method]
    if facts.items and config.method in ("full", "l2_sp", "ball", "spd", "mixout"):
        rate, why = 1e-3, "Adam's usual rate, which S3-Rec's authors also fine-tune with: tables of items get a gradient seldom"
    if facts.text and config.method not in ("probe", "scratch"):
        rate, why = rate / 2, f"half of the image rate {rate:g} ({why}): 5e-5 is transformers' default for text, 2e-5 usual for BERT-base"
    if config.task.name == "preference":
        rate, why = rate / 10, f"a tenth of what answers are learnt at ({why}): preferences need small steps (5e-7 to 5e-6 for full models)"
    factor, note = _OPTIMIZER_FACTOR[config.optimizer.name]
    return rate * factor, why + note


def _weight_decay(config: Config, facts: Facts) -> Suggestion:
    if facts.items:
        return 0.0, "off for recommenders: it would shrink the vectors of rare items, which seldom get a gradient"
    if config.method == "probe":
        return 0.0, "a linear probe is not decayed (MAE)"
    if config.method in ("prompt", "vpt"):
        return 0.0, "tokens of a prompt have no home at 0"
    if config.method == "pissa":
        return 0.0, "pissa's factors are not 0 where the weight is the pretrained one, so decay would pull away from it"
    if config.method == "l2_sp":
        return (0.0, "l2_sp: all is pulled to its pretrained value, the head too") if facts.keeps_head else (0.01, "L2-SP's beta, on the new head alone")
    if config.method in ("ball", "spd", "mixout"):
        return 0.0, f"{config.method} holds the weights near their pretrained values; decay towards 0 works against it (off in SPD's and FTP's code)"
    return (0.05, "BEiT and MAE fine-tuning, DeiT from scratch") if config.method in ("layer_decay", "scratch") else (0.01, "AdamW's usual value")


def _decay_rules(config: Config, facts: Facts) -> Suggestion:
    if config.method == "l2_sp" and not facts.keeps_head:
        return (("head/kernel", 1.0), (".*", 0.0)), "L2-SP: only the new head decays towards 0, the body is pulled to its pretrained values"
    return None, ""


def _table(config: Config, facts: Facts) -> tuple[CoefficientConfig, str]:
    """The method's table of coefficients and what it says."""
    frozen = ("stem", *facts.blocks[: len(facts.blocks) // 2])
    adapted = _adapted(facts)
    made: dict[str, tuple[Callable[[], CoefficientConfig], str]] = {
        "probe": (tables.probe, "only the head trains"),
        "lp_ft": (
            tables.lp_ft,
            "the head trains first, at thirty times the rate, the body from a third of the run on (our pilot's share), at full rate after a ramp of 5%",
        ),
        "layer_decay": (tables.layer_decay, "BEiT and MAE: 0.65 to 0.75, less decay for smaller models"),
        "discriminative": (tables.discriminative, "1 / 2.6: each group is 2.6 times slower than the one above (ULMFiT)"),
        "bitfit": (tables.bitfit, "biases and the head train"),
        "norms": (tables.norms_only, "the norms' scales and biases and the head train"),
        "attention": (tables.attention_only, "attention and the head train"),
        "partial": (lambda: tables.partial(*frozen), "the stem and the lower half of the blocks stay as they were pretrained"),
        **dict.fromkeys((kind for kind in ADAPTERS if kind != "ssf"), adapted),
        "ssf": (tables.ssf, "gains, biases, norms and the head train, all else is as it was pretrained"),
        "auto_rgn": (tables.auto_rgn, "every parameter's share follows its relative gradient norm (Lee et al. 2023)"),
    }
    make, why = made.get(config.method, (CoefficientConfig, "every parameter trains"))
    return make(), why


def _adapted(facts: Facts) -> tuple[Callable[[], CoefficientConfig], str]:
    """What trains beside adapters: a new head, and what an adapter file that the run goes on from had trained whole."""
    brought = facts.begins_with or ()
    head = not facts.keeps_head or any(path.startswith("head/") for path in brought)
    whole = tuple(path for path in brought if not path.startswith("head/"))
    what = ["the adapters", *(["the head" if facts.keeps_head else "the new head"] if head else []), *(["what their file brings whole"] if whole else [])]
    return functools.partial(tables.adapters, head, whole), f"{' and '.join(what)} train, all else is as it was pretrained"


def _adapter(config: Config, facts: Facts) -> Suggestion:
    return (config.method, "the method is an adapter") if config.method in ADAPTERS else (None, "")


def _rules(config: Config, facts: Facts) -> Suggestion:
    table, why = _table(config, facts)
    return (tables.EVERYTHING, f"{config.method}: every parameter trains") if table.rules is None else (table.rules, f"{config.method}: {why}")


def _layer_decay(config: Config, facts: Facts) -> Suggestion:
    table, why = _table(config, facts)
    return table.layer_decay, why


def _auto(config: Config, facts: Facts) -> Suggestion:
    table, why = _table(config, facts)
    return (None, "") if table.auto == "none" else (table.auto, why)


def _unfreeze_every(config: Config, facts: Facts) -> Suggestion:
    if config.method != "gradual":
        return None, ""
    total, epoch = _steps(config, facts)
    # The head and what follows the blocks begin at once; then one block after the other, and the stem last.
    longest = max(total // 2 // (len(facts.blocks) + 1), 1)
    if epoch <= longest:
        return "1 epochs", "one group an epoch, from the head down (ULMFiT)"
    return f"{longest} steps", f"an epoch for each of {len(facts.blocks) + 1} groups is too long for this run: all of them train from its middle on"


def _head_factor(config: Config, facts: Facts) -> Suggestion:
    if facts.keeps_head:
        return 1.0, "the head is pretrained too"
    if config.method in _NEW_HEAD_FACTOR:
        return 10.0, "the head is new and the body is not: 10 to 100 times the body's rate"
    return 1.0, "one rate for all that trains"


def _pull(config: Config, facts: Facts) -> Suggestion:
    if config.method != "l2_sp":
        return None, ""
    total, _ = _steps(config, facts)
    memory = max(total / 3, 2.0)
    pull = 1 / (memory * (config.optimizer.learning_rate or 1.0))
    return float(f"{pull:.3g}"), f"what a step moved is forgotten over 1 / (learning rate * pull) = {memory:.0f} steps, a third of the run (our pilot's share)"


def _ball(config: Config, facts: Facts) -> Suggestion:
    if config.method != "ball":
        return None, ""
    return 0.05, "no parameter moves by more than 5% of its norm; the radius of our pilot was a few per cent"


def _select(config: Config, facts: Facts) -> Suggestion:
    return (1.0, "SPD's lambda; 1 and 3 were alike in our pilot, 3 a little better at high rates") if config.method == "spd" else (None, "")


def _mixout(config: Config, facts: Facts) -> Suggestion:
    return (0.7, "0.7 to 0.9 in Lee et al. 2020, as we remember it; not checked, and not measured on images here") if config.method == "mixout" else (None, "")


def _steps(config: Config, facts: Facts) -> tuple[int, int]:
    """Steps of the run and of an epoch."""
    size = config.train.batch_size
    size = facts.examples if size == "all" else int(size or 1)
    clock = Clock(batch_size=size, examples_per_epoch=facts.examples, steps_per_epoch=facts.steps_per_epoch(config))
    return to_steps(config.train.duration or "1 epochs", clock, "train.duration", minimum=1), to_steps("1 epochs", clock)


def _dropout(config: Config, facts: Facts) -> Suggestion:
    if config.task.name in ("language_modeling", "preference"):
        return 0.0, "no dropout: decoders are pretrained without"
    if facts.items:
        return 0.1, "as in Klenitskiy and Vasilev 2023; small dense data want more (0.2 to 0.5 in SASRec's and S3-Rec's own runs)"
    if facts.text and config.method != "probe":
        return 0.1, "encoders are pretrained and fine-tuned with it (BERT)"
    return 0.0, "no dropout: a probe sees each text as it will be tested" if facts.text else "no dropout: image models are pretrained without"


def _metric(config: Config, facts: Facts) -> Suggestion:
    return facts.metric, "the task's main metric"


def _crop(config: Config, facts: Facts) -> Suggestion:
    if facts.text or facts.items:
        return None, ""
    if not facts.photos or config.method == "probe":
        return 1.0, "no crop: arrays and digits fill their frame" if not facts.photos else "no crop: a probe sees each image as it will be tested"
    return 0.5, "photos: random resized crop of half the area or more (timm trains from scratch with 0.08)"


def _flip(config: Config, facts: Facts) -> Suggestion:
    if facts.text or facts.items:
        return None, ""
    return facts.photos and config.method != "probe", "photos are mirrored, digits and text must not be; set it to false where left and right matter"


def _label_smoothing(config: Config, facts: Facts) -> Suggestion:
    if config.task.name != "classification":
        return None, ""
    return 0.0, "off: smoothing makes probabilities less honest"


def _batch_statistics(config: Config, facts: Facts) -> Suggestion:
    if config.method == "scratch":
        return "updated", "from random weights there are no statistics to keep"
    return "frozen", "kept from pretraining: statistics of a small batch are noise"


def _evaluate_every(config: Config, facts: Facts) -> Suggestion:
    return "5%", "twenty looks at the validation split"


_SUGGESTIONS: dict[str, Callable[[Config, Facts], Suggestion]] = {
    "train.batch_size": _batch_size,
    "train.duration": _duration,
    "train.evaluate_every": _evaluate_every,
    "model.batch_statistics": _batch_statistics,
    "model.dropout": _dropout,
    "evaluation.metric": _metric,
    "optimizer.schedule": _schedule,
    "optimizer.learning_rate": _learning_rate,
    "optimizer.weight_decay": _weight_decay,
    "adapter.kind": _adapter,
    "coefficient.rules": _rules,
    "coefficient.layer_decay": _layer_decay,
    "coefficient.unfreeze_every": _unfreeze_every,
    "coefficient.auto": _auto,
    "coefficient.head_factor": _head_factor,
    "coefficient.decay_rules": _decay_rules,
    "anchor.pull": _pull,
    "anchor.ball": _ball,
    "anchor.select": _select,
    "anchor.mixout": _mixout,
    "augment.crop_min_area": _crop,
    "augment.horizontal_flip": _flip,
    "task.label_smoothing": _label_smoothing,
}
