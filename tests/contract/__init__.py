"""The same tests over every layer that a node may run on."""
