"""What the tests of every kind share: real servers to start, stop, kill and pause."""
