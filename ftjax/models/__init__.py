"""Models by family: thin Linen modules with canonical parameter paths, seen by the rest of ftjax as pure functions.

`named` gives a specification for a name, `build` a `Model` for a specification. `layers` is where a model meets a weight.
"""

from ftjax.models.family import Family, Model
from ftjax.models.spec import InputSpec, ModelSpec
from ftjax.models.zoo import FAMILIES, RECOMMENDERS, build, for_output, named, names
