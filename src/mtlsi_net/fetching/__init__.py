"""From a list of mirrors to a data set in its place."""
