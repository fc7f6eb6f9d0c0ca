LAYERS = (3, 1)
