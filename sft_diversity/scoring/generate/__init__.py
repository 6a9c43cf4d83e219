"""The suite `generate`: what a model's own answers do, without a judge."""
