"""Unit tests are pure and quick: a second for all of them."""

from hypothesis import settings

settings.register_profile("unit", max_examples=25, deadline=None, print_blob=True)
settings.load_profile("unit")
