"""How the sample's products look: their table, colours, labels, what is drawn on them, and their shapes."""
