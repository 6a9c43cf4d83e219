"""The encoder that macro's vectors come from."""

from tests.embedding.conftest import tiny

__all__ = ["tiny"]
