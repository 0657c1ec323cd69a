"""A plan: which prior and method serve given data, and what they take."""
