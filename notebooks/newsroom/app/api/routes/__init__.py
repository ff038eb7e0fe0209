"""One module a group of URLs."""
