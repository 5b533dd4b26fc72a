"""A decoder of one's own for mtlsi-net."""
