"""What recommendation models are served with: an index of the items that score highest for a user."""
