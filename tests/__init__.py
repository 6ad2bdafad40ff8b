"""unit (pure), contract (every layer), integration (through the ASGI app), acceptance (real processes)."""
