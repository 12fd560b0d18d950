"""What deletes for good."""
