"""One folder a feature; each compiles its specs into host state."""
