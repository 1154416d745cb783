"""Values without I/O: keys, names, networks, specs."""
