"""Each health check, made to fail for real."""
