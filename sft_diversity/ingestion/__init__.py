"""Raw datasets in, one canonical corpus out."""
