"""Download of a data set: mirrors, transfer, unpacking."""
