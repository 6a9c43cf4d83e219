"""Tasks of lm-evaluation-harness -> one result file each."""
