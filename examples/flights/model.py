"""The model of arrival delay, wide and deep, in Keras 3 and tf-keras alike: it takes the columns as they are."""

from __future__ import annotations

from typing import Any

#: Number columns: their centre and their spread, roughly.
NUMBERS = {
    "dep_delay": (14, 40),
    "distance": (1046, 737),
    "scheduled": (185, 95),
    "temp": (58, 18),
    "dewp": (42, 20),
    "humid": (59, 20),
    "wind_gust": (25, 5),
    "precip": (0, 0.03),
    "pressure": (1017, 7),
    "visib": (9.3, 2),
    "wind_east": (-3, 8),
    "wind_north": (0, 8),
    "built": (2001, 6),
    "seats": (137, 66),
    "recent_all": (-6, 9),
    "recent_origin": (-6, 10),
    "recent_dest": (-6, 12),
    "recent_route": (-6, 13),
    "recent_carrier": (-6, 13),
}
#: Text and whole-number columns: hash buckets and width of their embedding.
CATEGORIES = {
    "carrier": (256, 8),
    "origin": (64, 4),
    "dest": (2048, 16),
    "tailnum": (16384, 8),
    "weekday": (7, 4),
    "hour": (24, 8),
}
TEXT = ("carrier", "origin", "dest", "tailnum")


def build(keras: Any) -> Any:
    """A model from `{column: [batch]}` to the arrival delay in minutes, `[batch, 1]`.

    It learns what is added to the departure delay: the wide part a number for each value of a category, the deep part
    whatever depends on several columns.

    Args:
        keras: `tf.keras`, of whichever version the job uses.
    """
    layers = keras.layers
    inputs = {name: keras.Input((), name=name) for name in NUMBERS}
    inputs |= {name: keras.Input((), name=name, dtype="string" if name in TEXT else "int32") for name in CATEGORIES}
    column = layers.Reshape((1,))
    numbers = [
        layers.Rescaling(1 / spread, offset=-centre / spread)(column(inputs[name]))
        for name, (centre, spread) in NUMBERS.items()
    ]
    wide, embedded = [], []
    for name, (buckets, width) in CATEGORIES.items():
        index = layers.Hashing(buckets)(inputs[name]) if name in TEXT else inputs[name]
        wide.append(layers.Embedding(buckets, 1, embeddings_initializer="zeros")(index))
        embedded.append(layers.Embedding(buckets, width)(index))
    deep = layers.Concatenate()([*numbers, *embedded])
    for units in (128, 64):
        deep = layers.Dense(units, activation="relu")(deep)
    added = layers.Add()([*wide, layers.Dense(1)(deep)])
    outputs = layers.Add()([column(inputs["dep_delay"]), layers.Rescaling(10.0)(added)])
    return keras.Model(inputs, outputs)
