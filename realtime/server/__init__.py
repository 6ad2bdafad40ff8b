"""What an ASGI server can do beyond the ASGI specification, and the plain way where it cannot."""
