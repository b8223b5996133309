"""The law: how far each iteration, and the whole run, may move each pretrained parameter.

    theta = theta0 + x                              what the model computes with
    v     = direction(clip(g)) + wd*theta + pull*x  the velocity the optimiser wants
    x'    = R( x - lr(t) * c(path, t) * v )         the displacement it gets

Read in this order: `rules` (a few patterns give every path its value), `schedules` (values over time), `table` (c, resolved and printed),
`anchors` (who is held by theta0), `hyper` (every number, traced), `layout` (0 is structure), `phases` (0 for a while is structure too),
`chain` (the optimiser that obeys), `bounds` (what a step can be at most), `travel` (x, measured).
This room knows trees and paths, not models.
"""

from ftjax.coefficients.bounds import bounded
from ftjax.coefficients.chain import chain
from ftjax.coefficients.hyper import Hyper, check_hyper, default_hyper
from ftjax.coefficients.layout import combine, partition
from ftjax.coefficients.links import moving
from ftjax.coefficients.mixout import mixout
from ftjax.coefficients.phases import Phase, phases
from ftjax.coefficients.retractions import Retraction
from ftjax.coefficients.rules import resolve_rules
from ftjax.coefficients.schedule_free import check_composes, evaluation_params
from ftjax.coefficients.schedules import Schedule, evaluate, learning_rate_shape
from ftjax.coefficients.table import Row, Table, build_table, coefficient, depths
from ftjax.coefficients.travel import travel

__all__ = [
    "Hyper",
    "Phase",
    "Retraction",
    "Row",
    "Schedule",
    "Table",
    "bounded",
    "build_table",
    "chain",
    "check_composes",
    "check_hyper",
    "coefficient",
    "combine",
    "default_hyper",
    "depths",
    "evaluate",
    "evaluation_params",
    "learning_rate_shape",
    "mixout",
    "moving",
    "partition",
    "phases",
    "resolve_rules",
    "travel",
]
