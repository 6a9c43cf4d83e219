"""A corpus in a page: see what a selection does while the dial is turned."""
