"""MiniLM fine-tuned on real text by ftjax and by Hugging Face's Trainer: `python -m benchmarks.text`, and `python -m benchmarks.text.speed`.

Read in this order: `data` (the sets, the same rows for both libraries), `settings` (what a run is, said once for both), `ours` and `peer` (one run of
each), `compare` (interleaved by seed; metric, probe, scratch, wall-clock), `page` (benchmarks/results/text.md), `speed` (step times in one process).
"""
