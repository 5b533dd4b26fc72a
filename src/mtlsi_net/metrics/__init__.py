"""Metrics pooled over the data set: a pure function and a torchmetrics class for each."""
