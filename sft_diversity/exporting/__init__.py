"""A subset, a corpus or a model -> a folder or a Hub repository that other tools read."""
