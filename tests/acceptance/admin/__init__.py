"""The pages of the admin, on real nodes."""
