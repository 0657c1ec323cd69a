"""The search for a method's numbers."""
