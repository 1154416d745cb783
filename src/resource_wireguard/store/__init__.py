"""Where specs and secrets are kept."""
