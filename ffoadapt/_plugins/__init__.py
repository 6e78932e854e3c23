"""What plugins are, how they are found, and by what name."""
