"""checkpoint -> SCORES: likelihood of references, one file per part of the suite."""
