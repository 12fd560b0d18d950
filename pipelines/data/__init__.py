"""Versions of pictures: from the product database to data/ and DVC."""
