"""Raw rows and runs to levels with a limit per row."""
