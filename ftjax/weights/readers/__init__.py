"""One small reader per file format; each turns a path into `{name: Tensor}` or a `WeightsError`, and runs nothing that it reads."""
