"""Does this photo show that product? A thin client for Photoproof models on TensorFlow Serving."""
