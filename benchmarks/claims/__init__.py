"""What papers say about fine-tuning, as tests that can fail: `python -m benchmarks.claims`.

Read in this order: `digits` (real data, real and made shifts), `arms` (every method is a point of the law's traced hyperparameters), `population`
(arms x learning rates x seeds in one compiled program), `experiments` (who is trained on what), `statements` (the claims), `verdicts` (holds, refuted
or inconclusive), `page` (docs/claims.md). Nothing here knows an optimiser: it is all `ftjax.coefficients` and `ftjax.training.step`.
"""
