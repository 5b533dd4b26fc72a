"""Tasks: one class each, owning everything that depends on what is predicted."""
