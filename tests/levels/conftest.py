"""The encoder that macro's vectors come from."""

from tests.embed.conftest import tiny

__all__ = ["tiny"]
