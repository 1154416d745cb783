"""Ports, passes and the agent."""
