"""The answers of one classifier about one window and one target, each gathered at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from xai_panel.evidence import baselines, segments
from xai_panel.evidence.coalitions import Coalitions
from xai_panel.models.frontends import feature_type, window_shape

if TYPE_CHECKING:
    from xai_panel.models.classifier import Classifier

#: How much is asked by default. positions: patches of an occlusion; segments: parts that are masked together;
#: coalitions: masked questions of LIME and KernelSHAP together; noise, noise_level: copies of SmoothGrad and their
#: standard deviation as a fraction of the window's range; steps: points on the path of integrated gradients; batch:
#: windows per forward pass (half as many when gradients are kept too).
BUDGET: dict[str, float] = {
    "positions": 169, "segments": 49, "coalitions": 400, "noise": 20, "noise_level": 0.15, "steps": 32, "batch": 16,
}  # fmt: skip


@dataclass
class Evaluations:
    """How many windows went through the model, forward and backward."""

    forward: int = 0
    backward: int = 0

    @property
    def total(self) -> int:
        return self.forward + self.backward


@dataclass(frozen=True)
class Activations:
    """A layer's answer: values and d logit / d values, both (K, h, w), and the layer's name."""

    values: np.ndarray
    gradients: np.ndarray
    layer: str


@dataclass(frozen=True)
class Path:
    """Gradients on the straight way from the baseline to the window.

    mean: average d logit / d features, like the window; gap: |sum of (window - baseline) · mean - (logit - baseline
    logit)| [logit].
    """

    mean: np.ndarray
    gap: float


@dataclass(frozen=True)
class Noise:
    """Gradients at noisy copies of the window: mean, like the window, and its standard error, (H, W)."""

    mean: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Occlusions:
    """Logits with one patch replaced by the baseline.

    boxes: (n, 4) int, rows and columns [top, bottom, left, right) of each patch; logits: (n,) float64.
    """

    boxes: np.ndarray
    logits: np.ndarray


def effect(change: NDArray[Any], gradient: NDArray[Any]) -> NDArray[Any]:
    """What a change of the features does to the logit to first order, real, one value a feature.

    change and d logit / d features, (H, W): their product; of complex features the sum of what both parts do, where a
    gradient holds d logit / d real part and d logit / d imaginary part in its two parts; of colors (C, H, W) the sum
    over them.
    """
    product = (np.conj(change) * gradient).real
    return product.sum(axis=colors_of(product))


def magnitude(values: NDArray[Any]) -> NDArray[Any]:
    """How large each feature's value or gradient is, (H, W): the Euclidean norm over complex parts and colors."""
    return np.linalg.norm(values, axis=0) if colors_of(values) else np.abs(values)


def colors_of(values: NDArray[Any]) -> tuple[int, ...]:
    """The axis of the colors of features (C, H, W); none of features (H, W)."""
    return tuple(range(values.ndim - 2))


def target_layer(classifier: Classifier) -> str | None:
    """The layer that activation methods read: the card's, else the backend's default, None when it has none."""
    try:
        return classifier.card.target_layer or classifier.backend.default_layer()
    except ValueError:
        return None


def no_layer(classifier: Classifier) -> str:
    """Why the backend has no layer that activation methods read by default; empty when it has one."""
    try:
        classifier.backend.default_layer()
    except ValueError as error:
        return str(error)
    return ""


class Evidence:
    """What `classifier` answers about `window` and `target`.

    Parameters
    ----------
    classifier: the model with its front end and backend
    window: (H, W) float32 or complex64, or colors (C, H, W), in feature units, one window of the model as
        `frontends.cut` makes it
    target: class index
    seed: of every random choice; the same seed gives the same answers whatever was asked before and in what batches
    layer: target layer; None for the card's or else the backend's default
    baseline: one of `baselines.KINDS`; None for the modality's default
    budget: replaces values of `BUDGET`
    checkpoint: called as checkpoint(stage, fraction of the stage) before every batch; may raise to cancel
    activations: answers for the target layer when another pass (the verdict's) has them; by default the pass that
        gives the gradient gives them too

    Raises ValueError for a window, target, layer, baseline or budget that does not fit the classifier.
    """

    def __init__(
        self,
        classifier: Classifier,
        window: np.ndarray,
        target: int,
        *,
        seed: int = 0,
        layer: str | None = None,
        baseline: str | None = None,
        budget: dict[str, float] | None = None,
        checkpoint: Callable[[str, float], None] | None = None,
        activations: Callable[[], Activations] | None = None,
    ) -> None:
        frontend, backend = classifier.frontend, classifier.backend
        window = np.array(window, feature_type(window), order="C")  # a copy: what was asked must not change later
        fits = window.ndim == len(frontend.shape)
        accepted = window_shape(frontend.windows(window.shape[-1])[0], frontend) if fits else frontend.shape
        if window.shape != accepted:
            raise ValueError(f"window: shape {window.shape}; accepted: {tuple(frontend.shape)} {frontend.dims}")
        if not np.isfinite(window).all():
            raise ValueError(
                f"window: {np.count_nonzero(~np.isfinite(window))} values are not finite; accepted: finite features"
            )
        if not 0 <= target < backend.classes:
            raise ValueError(f"target {target}: no such class; accepted: 0…{backend.classes - 1}")
        if layer is not None and layer not in backend.layers():
            raise ValueError(f"layer {layer!r}: not in the model; accepted: {', '.join(backend.layers()) or 'none'}")
        unknown = set(budget or {}) - set(BUDGET)
        if unknown:
            raise ValueError(f"budget: {', '.join(sorted(unknown))} not known; accepted: {', '.join(BUDGET)}")
        self.classifier, self.features, self.target, self.seed = classifier, window, target, seed
        self.layer = layer or target_layer(classifier)
        self.baseline_kind = baseline or baselines.default_kind(frontend.dims)
        self.baseline = baselines.baseline(window, self.baseline_kind, frontend.floor)
        self.budget = BUDGET | (budget or {})
        self.checkpoint = checkpoint or (lambda stage, fraction: None)
        self._listen = activations
        self.evaluations = Evaluations()
        self.maps: dict[str, Any] = {}
        self._answers: dict[Any, Any] = {}

    def rng(self, name: str) -> np.random.Generator:
        """A generator of its own for each kind of evidence, so that the order of requests does not matter."""
        return np.random.default_rng([self.seed, crc32(name.encode())])

    def _once(self, key: Any, gather: Callable[[], Any]) -> Any:
        if key not in self._answers:
            self._answers[key] = gather()
        return self._answers[key]

    def release(self) -> None:
        """Forget all answers, which refer back to the evidence and would keep it until the next garbage collection."""
        self._answers.clear()
        self.maps.clear()

    # --- one forward and one backward pass ---

    def _single(self) -> Any:
        """Logits, input gradient and, unless another pass has it, layer of the window itself."""

        def gather() -> Any:
            self.checkpoint("gradient", 0.0)
            self.evaluations.forward += 1
            self.evaluations.backward += 1
            layer = self.layer if self._listen is None else None
            return self.classifier.backend.gradients(self.features[None], self.target, layer)

        return self._once("single", gather)

    def _forward(self) -> np.ndarray:
        """Logits of the window itself, from a forward pass alone."""

        def gather() -> np.ndarray:
            self.checkpoint("verdict", 0.0)
            self.evaluations.forward += 1
            return self.classifier.backend.logits(self.features[None])[0]

        return self._once("forward", gather)

    @property
    def logits(self) -> np.ndarray:
        """Logits of the window, (C,)."""
        return self._single().logits[0] if self.classifier.backend.differentiable else self._forward()

    @property
    def logit(self) -> float:
        """Logit of the target."""
        return float(self.logits[self.target])

    @property
    def gradient(self) -> np.ndarray:
        """d logit / d features, like the window."""
        return self._single().inputs[0]

    @property
    def activations(self) -> Activations:
        """The target layer's activations and gradients, (K, h, w), rows in the order of the features.

        Raises ValueError when no layer was asked for and the model has no default.
        """
        if self.layer is None:
            raise ValueError(f"layer: {no_layer(self.classifier)}; choose a method that needs none")
        if self._listen is not None:
            answer = self._once("activations", self._listen)
        else:
            single = self._single()
            answer = Activations(single.activations[0], single.layer[0], self.layer)
        if self.classifier.frontend.flipped:
            return Activations(answer.values[:, ::-1], answer.gradients[:, ::-1], self.layer)
        return answer

    # --- many passes, in batches ---

    def _batches(self, stage: str, count: int, size: int) -> Iterator[slice]:
        size = max(1, min(size, self.classifier.backend.batch))
        for start in range(0, count, size):
            self.checkpoint(stage, start / count)
            yield slice(start, min(start + size, count))

    def _ask(self, stage: str, count: int, compose: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Target logits (count,) of windows that `compose` makes batch by batch."""
        logits = np.empty(count, np.float64)
        for batch in self._batches(stage, count, int(self.budget["batch"])):
            logits[batch] = self.classifier.backend.logits(compose(batch))[:, self.target]
            self.evaluations.forward += batch.stop - batch.start
        return logits

    def _gradients(
        self, stage: str, count: int, compose: Callable[[slice], np.ndarray]
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Input gradients of the windows that `compose` makes, batch by batch."""
        for batch in self._batches(stage, count, int(self.budget["batch"]) // 2):
            answer = self.classifier.backend.gradients(compose(batch), self.target)
            self.evaluations.forward += batch.stop - batch.start
            self.evaluations.backward += batch.stop - batch.start
            yield batch, answer.inputs

    @property
    def baseline_logit(self) -> float:
        """Logit of the target when everything is at its baseline."""
        return self._once("baseline", lambda: float(self._ask("baseline", 1, lambda _: self.baseline[None])[0]))

    def path(self, steps: int | None = None) -> Path:
        """Average gradient at `steps` Gauss-Legendre points between baseline and window."""
        steps = int(steps or self.budget["steps"])

        def gather() -> Path:
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            nodes, weights = (nodes + 1) / 2, weights / 2
            change = self.features - self.baseline
            mean = np.zeros(change.shape, np.result_type(change, np.float64))
            points = nodes.astype(np.float32).reshape(-1, *[1] * change.ndim)
            for batch, gradients in self._gradients("path", steps, lambda b: self.baseline + points[b] * change):
                mean += np.tensordot(weights[batch], gradients.astype(mean.dtype), axes=1)
            gap = abs(float(effect(change, mean).sum()) - (self.logit - self.baseline_logit))
            return Path(mean.astype(feature_type(mean)), gap)

        return self._once(("path", steps), gather)

    def noise(self, count: int | None = None, level: float | None = None) -> Noise:
        """Gradients at `count` copies with Gaussian noise of `level` times the window's range.

        Of a complex window, whose range is that of a few peaks, `level` is relative to the root mean square magnitude.
        """
        count = int(count or self.budget["noise"])
        level = self.budget["noise_level"] if level is None else level

        def gather() -> Noise:
            rng, paired = self.rng("noise"), np.iscomplexobj(self.features)
            span = np.sqrt(np.mean(np.abs(self.features) ** 2) / 2) if paired else np.ptp(self.features)
            sigma = np.float32(level * span)

            def compose(batch: slice) -> np.ndarray:
                shape = (batch.stop - batch.start, *self.features.shape)
                draws = rng.standard_normal((*shape, 2) if paired else shape, np.float32)
                return self.features + sigma * (draws.view(np.complex64)[..., 0] if paired else draws)

            total = np.zeros(self.features.shape, np.result_type(self.features, np.float64))
            squares = np.zeros(self.features.shape)
            for _, gradients in self._gradients("noise", count, compose):
                total += gradients.sum(axis=0, dtype=total.dtype)
                squares += np.square(np.abs(gradients), dtype=np.float64).sum(axis=0)
            mean = total / count
            variance = np.maximum(squares / count - np.abs(mean) ** 2, 0) * count / max(count - 1, 1)
            error = np.sqrt(variance / count) if count > 1 else np.full_like(squares, np.nan)
            return Noise(mean.astype(feature_type(mean)), magnitude(error).astype(np.float32))

        return self._once(("noise", count, level), gather)

    def segments(self, kind: str | None = None) -> np.ndarray:
        """Labels 0…k-1 of the window's parts, (H, W) int32; kind: of `segments.KINDS`, None for the modality's."""
        kind = kind or segments.default_kind(self.classifier.frontend.dims)
        return self._once(
            ("segments", kind),
            lambda: segments.segment(self.features, kind, int(self.budget["segments"]), self.classifier.frontend.rows),
        )

    def coalitions(self, labels: np.ndarray | None = None) -> Coalitions:
        """The coalitions of these segments (H, W), by default of `segments()`, with the answers to them."""
        labels = self.segments() if labels is None else np.asarray(labels)

        def gather() -> Coalitions:
            colors = colors_of(self.features)
            players = np.unique(labels[(self.features != self.baseline).any(axis=colors)])
            places = np.expand_dims(labels, colors)  # all colors of a pixel are masked together

            def ask(masks: np.ndarray) -> np.ndarray:
                present = np.ones((len(masks), int(labels.max()) + 1), bool)
                present[:, players] = masks
                return self._ask(
                    "coalitions", len(masks), lambda b: np.where(present[b][:, places], self.features, self.baseline)
                )

            return Coalitions(
                labels, players, ask, full=self.logit, empty=self.baseline_logit,
                budget=int(self.budget["coalitions"]), rng=self.rng("coalitions"),
            )  # fmt: skip

        return self._once(("coalitions", labels.tobytes()), gather)

    def occlusions(self, patch: tuple[int, int] | None = None, stride: tuple[int, int] | None = None) -> Occlusions:
        """Logits with a patch (rows, columns) at the baseline, moved by `stride` until it has covered the window.

        By default the positions of the budget are spread evenly and each patch is twice as long as its stride.
        Raises ValueError when a stride is longer than the patch, which would leave gaps.
        """
        height, width = self.features.shape[-2:]
        if stride is None:
            rows = min(height, max(1, int((self.budget["positions"] * height / width) ** 0.5)))
            columns = min(width, max(1, int(self.budget["positions"] // rows)))
            stride = (-(-height // rows), -(-width // columns))
        if patch is None:
            patch = (stride[0] * 2 if stride[0] > 1 else 1, stride[1] * 2 if stride[1] > 1 else 1)
        if stride[0] > patch[0] or stride[1] > patch[1]:
            raise ValueError(f"stride {stride}: longer than the patch {patch}; accepted: at most the patch")

        def gather() -> Occlusions:
            tops = np.arange(0, max(height - patch[0], 0) + stride[0], stride[0])
            lefts = np.arange(0, max(width - patch[1], 0) + stride[1], stride[1])
            top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
            boxes = np.stack(
                [top, np.minimum(top + patch[0], height), left, np.minimum(left + patch[1], width)], axis=1
            )

            def compose(batch: slice) -> np.ndarray:
                windows = np.repeat(self.features[None], batch.stop - batch.start, axis=0)
                for window, (y0, y1, x0, x1) in zip(windows, boxes[batch], strict=True):
                    window[..., y0:y1, x0:x1] = self.baseline[..., y0:y1, x0:x1]
                return windows

            return Occlusions(boxes, self._ask("occlusion", len(boxes), compose))

        return self._once(("occlusions", patch, stride), gather)
