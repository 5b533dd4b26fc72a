"""Building blocks that every other package uses."""
