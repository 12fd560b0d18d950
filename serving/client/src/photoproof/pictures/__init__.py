"""A picture as it is sent."""
