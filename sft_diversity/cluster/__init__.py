"""Commands as batch jobs: planned into steps, run by processes here or by Slurm, looked after."""
