"""The host itself: every module here does I/O."""
