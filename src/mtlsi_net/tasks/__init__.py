"""Tasks: one class each, with everything that depends on what is predicted."""
