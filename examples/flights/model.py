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
#: Columns of which each value gets numbers of its own, in a hash table that they share.
TEXT = ("carrier", "origin", "dest", "tailnum")
WHOLE = ("weekday", "hour")
BUCKETS = 32_768


def build(keras: Any) -> Any:
    """A model from `{column: [batch]}` to the arrival delay in minutes, `[batch, 1]`.

    It learns what is added to the departure delay. The wide part is one number for each value of a category; the deep
    part, which sees eight numbers for each of them and all the number columns, is what depends on several columns.

    Args:
        keras: `tf.keras`, of whichever version the job uses.
    """
    layers = keras.layers
    inputs = {name: keras.Input((), name=name) for name in NUMBERS}
    inputs |= {name: keras.Input((), name=name, dtype="string") for name in TEXT}
    inputs |= {name: keras.Input((), name=name, dtype="int32") for name in WHOLE}
    column = {name: layers.Reshape((1,))(value) for name, value in inputs.items()}

    hashed = [layers.Hashing(BUCKETS, salt=number)(column[name]) for number, name in enumerate((*TEXT, *WHOLE))]
    index = layers.Concatenate()(hashed)
    wide = layers.GlobalAveragePooling1D()(layers.Embedding(BUCKETS, 1, embeddings_initializer="zeros")(index))
    embedded = layers.Flatten()(layers.Embedding(BUCKETS, 8)(index))

    scaled = [
        layers.Rescaling(1 / spread, offset=-centre / spread)(column[name])
        for name, (centre, spread) in NUMBERS.items()
    ]
    deep = layers.Concatenate()([*scaled, embedded])
    for units in (128, 64):
        deep = layers.Dense(units, activation="relu")(deep)

    added = layers.Rescaling(10.0)(layers.Add()([wide, layers.Dense(1)(deep)]))
    return keras.Model(inputs, layers.Add()([column["dep_delay"], added]))
