"""prompts -> answers of two models -> verdicts of a judge -> win rates."""
