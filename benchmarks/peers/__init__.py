"""The servers that stand beside ours; each is a program of its own."""
