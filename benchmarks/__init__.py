"""Measurements beside peers, and of the service against its own bare graphs."""
