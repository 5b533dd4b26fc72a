"""Networks: an encoder shared by all tasks and the decoders on top of it.

What most layers take: ``tasks``, T, their number (and ``weight_sets``, of weights: T, or 1 that all tasks share);
``width``, C, channels of the features; ``head_dim``, channels of an attention head; ``task_channels``, task -> K outputs;
``norm``, class of the norms, one of ``NORMS``. Forward passes take features (B, T, C, h, w) and ``valid``, (B, 1, h, w)
bool, False on padding, or None where every position is image.
"""
