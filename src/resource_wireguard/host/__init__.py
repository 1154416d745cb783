"""The pure core: the state of a host, its diff, and the words for it."""
