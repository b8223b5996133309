"""Ablations: many fine-tunings as one compiled step, and an honest verdict.

Read in this order: `spec` (what is asked), `grid` (its members), `grouping` (who shares a program), `starts` (what is shared and what is each one's own),
`program` (the compiled step), `kit` and `population` (what is under way), `running` (from step 0 to results, through kills), `statistics`, `results` and
`judging` (how sure), `story` (all of it).
"""

from ftjax.ablation.spec import Ablation, Arm, Axis, Range, Search, Times

__all__ = ["Ablation", "Arm", "Axis", "Range", "Search", "Times"]
