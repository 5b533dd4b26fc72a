"""Boundary scores of saved maps, by whatever method made them."""
