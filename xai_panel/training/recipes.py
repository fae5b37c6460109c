"""The recipe of every classifier that ships with the package."""

from __future__ import annotations

from xai_panel.training import audio_task, radiograph_task
from xai_panel.training.task import Recipe

LOG_MEL = {"kind": "log-mel"}
ONE_CHANNEL = {"mean": [0.5], "std": [0.25]}
SMALL = {"kind": "log-mel", "bands": 128, "frames": 128, **ONE_CHANNEL}
WAVEFORM = {"kind": "waveform"}
SIX_SECONDS = {"kind": "waveform", "samples": 96_000}
RADIOGRAPH = {"kind": "radiograph", "size": 224}
GREY = {**RADIOGRAPH, "mean": [0.5], "std": [1 / 2048]}
RECIPES = {
    "audio-mobilenetv2": Recipe(
        audio_task.task,
        "MobileNetV2 on log-mel spectrograms",
        "torchvision:mobilenet_v2",
        LOG_MEL,
        epochs=12,
        initial="imagenet",
    ),
    "audio-custom-cnn": Recipe(
        audio_task.task,
        "Small CNN on log-mel spectrograms",
        "xai_panel:custom-cnn",
        SMALL,
        epochs=24,
        learning_rate=1e-3,
    ),
    "audio-vgg16": Recipe(
        audio_task.task,
        "VGG16 on log-mel spectrograms",
        "xai_panel:vgg16-pooled",
        LOG_MEL,
        epochs=6,
        learning_rate=1.5e-4,
        piece=0.25,
    ),
    "audio-resnet50": Recipe(
        audio_task.task,
        "ResNet50 on log-mel spectrograms",
        "torchvision:resnet50",
        LOG_MEL,
        epochs=10,
        outputs=1,
        piece=0.25,
    ),
    "audio-for-keras": Recipe(
        audio_task.task,
        "Convolutional network in Keras on log-mel spectrograms",
        "xai_panel:keras-length-free",
        {**SMALL, "frames": 448},
        epochs=16,
        learning_rate=2e-3,
        framework="tensorflow",
        piece=0.25,
    ),
    "audio-tssdnet-1d": Recipe(
        audio_task.task,
        "Res-TSSDNet on the waveform",
        "xai_panel:tssdnet-1d",
        SIX_SECONDS,
        epochs=20,
        learning_rate=1e-3,
        piece=1 / 3,
    ),
    "audio-inc-tssdnet": Recipe(
        audio_task.task,
        "Inc-TSSDNet on the waveform",
        "xai_panel:inc-tssdnet",
        SIX_SECONDS,
        epochs=24,
        learning_rate=1e-3,
        piece=1 / 3,
    ),
    "audio-tssdnet-2d": Recipe(
        audio_task.task,
        "Res-TSSDNet on the constant-Q transform",
        "xai_panel:tssdnet-2d",
        {"kind": "cqt"},
        epochs=7,
        learning_rate=1e-3,
        piece=0.32,
    ),
    "audio-aasist": Recipe(
        audio_task.task,
        "AASIST on the waveform",
        "xai_panel:aasist",
        WAVEFORM,
        epochs=12,
        learning_rate=1e-3,
        piece=0.25,
        rounds=1,
    ),
    "audio-aasist-l": Recipe(
        audio_task.task,
        "AASIST-L on the waveform",
        "xai_panel:aasist-l",
        WAVEFORM,
        epochs=12,
        learning_rate=1e-3,
        piece=0.25,
        rounds=1,
    ),
    "xray-mobilenetv2": Recipe(
        radiograph_task.task,
        "MobileNetV2 on chest radiographs",
        "torchvision:mobilenet_v2",
        RADIOGRAPH,
        epochs=6,
        initial="imagenet",
    ),
    "xray-alexnet": Recipe(
        radiograph_task.task,
        "AlexNet on chest radiographs",
        "xai_panel:alexnet-pooled",
        RADIOGRAPH,
        epochs=16,
        learning_rate=3e-4,
    ),
    "xray-densenet121": Recipe(
        radiograph_task.task,
        "DenseNet121 on chest radiographs",
        "torchvision:densenet121",
        RADIOGRAPH,
        epochs=8,
        coarse=5,
    ),
    "xray-xrv-densenet121": Recipe(
        radiograph_task.task,
        "DenseNet121 of TorchXRayVision on chest radiographs",
        "torchxrayvision:densenet121",
        GREY,
        epochs=2,
        learning_rate=2e-4,
        outputs=18,
        initial="xray-densenet121",
    ),
}
