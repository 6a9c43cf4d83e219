"""Selection over shards: peeling, two-round greedy, what one machine need not hold."""
