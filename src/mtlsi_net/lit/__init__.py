"""Lightning parts: the module, optimisation, callbacks."""
