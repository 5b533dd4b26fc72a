"""From a configuration to a trained, scored and recorded run."""
