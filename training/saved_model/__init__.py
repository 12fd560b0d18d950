"""The exported thing: its graph, its loading, its assets."""
