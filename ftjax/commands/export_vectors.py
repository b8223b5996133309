"""`ftjax export --format vectors`: the vectors of a recommender's items, for a search by nearest neighbours outside.

A score is the product of a history's vector with an item's, so the index is one of largest inner products. Row i of `items.npy` belongs to line i of `ids.txt`.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from ftjax import files, models, trees, weights
from ftjax.commands.exported import described
from ftjax.errors import ConfigError

VECTORS, IDS, TENSORS = "items.npy", "ids.txt", "items.safetensors"


def export_vectors(workdir: Path, output: Path) -> tuple[str, ...]:
    """Write `items.npy` float32 `[items width]`, the same as `items.safetensors` (tensor `items`), `ids.txt` and `vectors.json`; read back and compared.

    Returns:
      Warnings.

    Raises:
      ConfigError: the run's model is no recommender, or an id holds a line break.
      DataError: there is no finished run.
    """
    folder, description = described(workdir)
    spec = models.ModelSpec.from_json(description["spec"])
    model = models.build(spec)
    if model.family.items is None:
        raise ConfigError(f"{workdir} holds a {spec.family}, which has no vectors of items; allowed: runs of task.name='recommendation'")
    ids = description["classes"]
    if any(len(name.splitlines()) != 1 for name in ids):
        raise ConfigError("an item's id holds a line break or nothing, which ids.txt cannot")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    tensors = weights.open_weights(str(folder / "weights.safetensors")).tensors
    params, extra = (trees.map_with_path(lambda path, _: tensors[path], tree) for tree in (shapes[0], shapes[1].get("batch_stats", {})))
    table = np.ascontiguousarray(np.asarray(model.items(params, {"batch_stats": extra} if extra else {}), np.float32)[1 : 1 + len(ids)])
    output.mkdir(parents=True, exist_ok=True)
    np.save(output / VECTORS, table)
    weights.save_safetensors(output / TENSORS, {"items": table}, {"format": "ftjax-vectors"})
    files.write_text(output / IDS, "".join(f"{name}\n" for name in ids))
    files.write_json(output / "vectors.json", {"items": len(ids), "width": table.shape[1], "score": "inner product", "family": spec.family})
    assert np.array_equal(np.load(output / VECTORS), table)
    return ()
