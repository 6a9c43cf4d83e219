"""`python -m sft_diversity`, as launchers of several processes call it."""

from sft_diversity.cli import main

main()
