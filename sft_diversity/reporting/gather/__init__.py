"""Folders in, plain data out: what a page tells, before anything is drawn."""
