"""Shapes of x(phi): adapters and quantised weights as leaf types that models do not know, from binding to merging."""

from __future__ import annotations

from ftjax.adapters.binding import BASE, DEFAULT_TARGETS, TRAINED, Bound, bind, kinds_of, scaling
from ftjax.adapters.bottleneck import BOTTLENECKS, AdaptFormer, Houlsby
from ftjax.adapters.diagonal import IA3, SSF
from ftjax.adapters.int8 import Int8, quantise
from ftjax.adapters.leaf import Drop, Leaf, dense, is_leaf
from ftjax.adapters.low_rank import DoRA, LoRA, PiSSA
from ftjax.adapters.merging import arrays, has_leaves, kept_apart, laid_out, merge, with_dropout
from ftjax.adapters.neutral import Neutral, assembled, leaves_of, neutral, rows_of
from ftjax.adapters.orthogonal import OFT
from ftjax.adapters.placing import partition_spec
from ftjax.adapters.prompts import has_prompts, without_prompts
from ftjax.adapters.targets import ROLES, matched
