"""Is this copy of a data set whole, and is it the one that published numbers come from?"""
