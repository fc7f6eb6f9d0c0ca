"""From files to `tf.data`: who reads which rows, and how they become tensors."""
