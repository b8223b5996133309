"""peft's side of the comparison, in an interpreter with torch, transformers and peft: `python peft_worker.py FOLDER`, written by `exchange.write`.

It imports nothing of ftjax. The loop is what a user of peft writes by hand: bfloat16 autocast, AdamW, clipping, the schedule as given.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

EVALUATION_BATCH = 100


def build(job: dict[str, Any], adapter: Path | None) -> Any:
    """The base with the adapter on it, ready to train; without one all of it trains."""
    import peft
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if job["kind"] == "text":
        options = {"num_labels": job["classes"], "hidden_dropout_prob": job["dropout"], "attention_probs_dropout_prob": 0.0}
        model = transformers.AutoModelForSequenceClassification.from_pretrained(job["base"], **options)
    else:
        model = transformers.AutoModelForImageClassification.from_pretrained(job["base"])
    return model if adapter is None else peft.PeftModel.from_pretrained(model, str(adapter), is_trainable=True)


def optimizer(model: Any, job: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors do not."""
    live = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in live if parameter.ndim > 1], "weight_decay": job["weight_decay"]},
        {"params": [parameter for parameter in live if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=tuple(job["betas"]), eps=job["epsilon"])


def step(model: Any, chain: torch.optim.Optimizer, batch: dict[str, torch.Tensor], rate: float, clip_norm: float, bfloat16: bool = True) -> float:
    """One optimiser step; the loss before it."""
    for group in chain.param_groups:
        group["lr"] = rate
    inputs = {name: value for name, value in batch.items() if name != "label"}
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = model(**inputs).logits
    loss = torch.nn.functional.cross_entropy(logits.float(), batch["label"])
    loss.backward()
    torch.nn.utils.clip_grad_norm_([parameter for parameter in model.parameters() if parameter.requires_grad], clip_norm)
    chain.step()
    chain.zero_grad()
    return float(loss)


def train(job: dict[str, Any], folder: Path, factor: float, seed: int) -> Any:
    """The model after the last step."""
    torch.manual_seed(seed)
    model = build(job, folder / f"adapter_{seed}").train()
    chain, batches = optimizer(model, job), dict(np.load(folder / f"batches_{seed}.npz"))
    for number, rate in enumerate(job["rates"]):
        batch = {name: torch.from_numpy(np.ascontiguousarray(values[number])) for name, values in batches.items()}
        step(model, chain, batch | {"label": batch["label"].long()}, rate * factor, job["clip_norm"])
    return model


@torch.no_grad()
def correct(model: Any, folder: Path, split: str) -> np.ndarray:
    """Whether each example is answered right."""
    data, model = dict(np.load(folder / f"{split}.npz")), model.eval()
    found = []
    for start in range(0, len(data["label"]), EVALUATION_BATCH):
        part = {name: torch.from_numpy(values[start : start + EVALUATION_BATCH]) for name, values in data.items() if name not in ("label", "weight")}
        with torch.autocast("cpu", torch.bfloat16):
            found.append(model(**part).logits.float().argmax(-1).numpy())
    return np.concatenate(found) == data["label"]


def travel(model: Any) -> float:
    """Mean over the blocks of |scale b a| / |w|, over the adapted weights of a block together."""
    sums: dict[str, list[float]] = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            block = next(part for part in name.split(".") if part.isdigit())
            delta, weight = module.get_delta_weight("default").detach(), module.get_base_layer().weight.detach()
            held = sums.setdefault(block, [0.0, 0.0])
            held[0], held[1] = held[0] + float(delta.square().sum()), held[1] + float(weight.square().sum())
    return float(np.mean([(moved / whole) ** 0.5 for moved, whole in sums.values()]))


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    best, trials, began = None, [], time.perf_counter()
    for factor in job["factors"]:
        model = train(job, folder, factor, 0)
        value = float(correct(model, folder, "validation").mean())
        trials.append({"factor": factor, "validation": value})
        print(f"  peft, factor {factor:.3g}: validation {value:.3f}", flush=True)
        if best is None or value > best[0]:
            best = (value, factor, model)
    assert best is not None
    tested: list[dict[str, Any]] = []
    for seed in job["seeds"]:
        model = best[2] if seed == 0 else train(job, folder, best[1], seed)
        answers = correct(model, folder, "test")
        tested.append({"accuracy": float(answers.mean()), "correct": "".join("1" if right else "0" for right in answers), "travel": travel(model)})
    print(f"  peft, test {[round(one['accuracy'], 3) for one in tested]}", flush=True)
    found = {"trials": trials, "factor": best[1], "tested": tested, "steps": len(job["rates"]), "seconds": time.perf_counter() - began}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
