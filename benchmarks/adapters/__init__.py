"""Adapters against full fine-tuning, and against peft: `python -m benchmarks.adapters`, and `python -m benchmarks.adapters.speed`.

Read in this order: `arms` (the methods, and a run of each as a configuration), `cell` (one method on one set: rate chosen on validation, then seeds),
`exchange` and `peft_worker` (the same runs by peft, in a process of its own), `clock` (step times, interleaved), `page` (benchmarks/results/adapters.md),
`speed` (LoRA and full against peft).
"""
