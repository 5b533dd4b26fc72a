"""Engine: training, resuming, evaluation and scoring of runs, from configuration to record."""
