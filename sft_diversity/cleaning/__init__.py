"""Clean pools: near-duplicates and overlap with evaluation sets, each removal with its twin."""
