"""Convolutional networks in Keras, functional models with channels last."""

from __future__ import annotations

from typing import Any


def length_free(outputs: int) -> Any:
    """Log-mel spectrograms (n, bands, any number of frames, 1) → logits (n, outputs): five convolutions with batch
    normalisation and global average pooling over frequency and time, 0.39 million weights.
    """
    from tensorflow import keras

    layers = keras.layers
    inputs = x = keras.Input((None, None, 1), name="log_mel")
    for k, width in enumerate((32, 64, 96, 128, 192)):
        x = layers.Conv2D(width, 3, strides=2 if k in (1, 2, 3) else 1, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.95)(x)
        x = layers.ReLU(name=f"activation_{k + 1}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(outputs)(x), name="length_free")


def picture(outputs: int) -> Any:
    """Pictures of spectrograms (n, 224, 224, 3) in 0…1 → probabilities (n, outputs): four convolutions with batch
    normalisation and max pooling, global average pooling, softmax; 0.1 million weights. The first convolution steps by
    two pixels in frequency, the height of a band.
    """
    from tensorflow import keras

    layers = keras.layers
    inputs = x = keras.Input((224, 224, 3), name="picture")
    for k, width in enumerate((16, 32, 64, 128)):
        if k:
            x = layers.MaxPooling2D()(x)
        x = layers.Conv2D(width, 3, strides=1 if k else (2, 1), padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.95)(x)
        x = layers.ReLU(name=f"activation_{k + 1}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Softmax()(layers.Dense(outputs)(x)), name="picture")
