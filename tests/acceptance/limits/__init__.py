"""Who is let in, who has to go, and what the client sees of it, on real nodes."""
