"""SASRec in PyTorch, as `ftjax.models.sequence` has it: for the comparison of speed, which first checks that both give the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """q = norm1(x); x = q + attention(q, x); y = norm2(x); x = y + mlp(y)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-8), nn.LayerNorm(width, 1e-8)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """One block over `[batch length width]`."""
        batch, length, width = x.shape

        def cut(y: torch.Tensor) -> torch.Tensor:
            return y.view(batch, length, self.heads, -1).transpose(1, 2)

        q = self.norm1(x)
        mixed = functional.scaled_dot_product_attention(cut(self.query(q)), cut(self.key(x)), cut(self.value(x)), is_causal=True)
        x = self.norm2(q + self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        hidden = functional.dropout(functional.relu(self.up(x)), self.dropout, self.training)
        return (x + functional.dropout(self.down(hidden), self.dropout, self.training)) * there


class Sasrec(nn.Module):
    """Histories `[batch length]` to a vector for each place."""

    def __init__(self, items: int, width: int = 64, depth: int = 2, heads: int = 1, hidden: int = 64, positions: int = 50, dropout: float = 0.1) -> None:
        super().__init__()
        self.item, self.position = nn.Embedding(1 + items, width, padding_idx=0), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(depth))
        self.norm, self.dropout = nn.LayerNorm(width, 1e-8), dropout

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """`[batch length width]`; scores are products with `item.weight`."""
        there = (items > 0)[:, :, None]
        places = torch.arange(items.shape[1]).clamp(max=self.position.num_embeddings - 1)
        x = self.item(items) * self.item.embedding_dim**0.5 + self.position(places)
        x = functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x, there)
        return self.norm(x)


def put(model: Sasrec, flat: Mapping[str, Any]) -> None:
    """ftjax's parameters, by path, into the model."""
    names = {"item.weight": "item/embedding", "position.weight": "stem/position/embedding", "norm.weight": "norm/scale", "norm.bias": "norm/bias"}
    for index in range(len(model.blocks)):
        ours, theirs = f"encoder/block_{index}", f"blocks.{index}"
        for norm in ("norm1", "norm2"):
            names |= {f"{theirs}.{norm}.weight": f"{ours}/{norm}/scale", f"{theirs}.{norm}.bias": f"{ours}/{norm}/bias"}
        for part, names_of in (("attention", ("query", "key", "value", "out")), ("mlp", ("up", "down"))):
            for name in names_of:
                names |= {f"{theirs}.{name}.weight": f"{ours}/{part}/{name}/kernel", f"{theirs}.{name}.bias": f"{ours}/{part}/{name}/bias"}
    state = {}
    for theirs, ours in names.items():
        array = np.asarray(flat[ours])
        state[theirs] = torch.tensor(array.T.copy() if ours.endswith("kernel") else array.copy())
    model.load_state_dict(state)
