"""What one kind of adapter needs: subject to change without a deprecation."""
