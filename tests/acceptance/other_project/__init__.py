"""Somebody else's Django project that has installed ours: stock consumers, views, and programs that publish."""
