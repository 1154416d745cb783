"""The command line and the list of features."""
