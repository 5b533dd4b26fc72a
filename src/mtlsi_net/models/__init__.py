"""Networks: an encoder shared by all tasks and the decoders on top of it."""
