"""Generated chest radiographs: a stylised thorax of which X-rays are computed, in front (posterior-anterior) view.

Each tissue adds its thickness times its attenuation along the beam (Beer-Lambert), a detector with a sigmoid response
and quantum noise makes the image of it. The image's left is the patient's right, as radiographs are shown. No person's
data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt, gaussian_filter

SIZE = 345.6  # height and width of the field [mm]
_MIDDLE = SIZE / 2

_TISSUE, _BONE = 0.0175, 0.034  # attenuation [1/mm] at about 90 kV, scatter included
_AIR_LEFT = 0.36  # part of the lungs that is tissue


@dataclass(frozen=True)
class Ellipse:
    """A region (y, x) [mm]: center, half axes and how far the first axis is turned from y towards x [degree]."""

    center: tuple[float, float]
    radii: tuple[float, float]
    angle: float = 0.0

    def depth(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """1 at the center, 0 on the rim, negative outside; broadcasts y against x [mm]."""
        turn = np.deg2rad(self.angle)
        dy, dx = y - self.center[0], x - self.center[1]
        along, across = dy * np.cos(turn) + dx * np.sin(turn), dx * np.cos(turn) - dy * np.sin(turn)
        return 1 - np.hypot(along / self.radii[0], across / self.radii[1])

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.depth(y, x) >= 0


@dataclass(frozen=True)
class Box:
    """A region (y, x) [mm] between two corners."""

    top_left: tuple[float, float]
    bottom_right: tuple[float, float]

    def contains(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (
            (y >= self.top_left[0])
            & (y <= self.bottom_right[0])
            & (x >= self.top_left[1])
            & (x <= self.bottom_right[1])
        )


@dataclass(frozen=True)
class Thorax:
    """One phantom: who is on it, drawn from the seed, and what is planted in it."""

    seed: int = 0
    opacities: tuple[Ellipse, ...] = ()
    marker: str = ""
    marker_box: Box = Box((20.0, 288.0), (46.0, 314.0))


def thorax(phantom: Thorax, pixels: int = 768, noise: float = 1.0) -> NDArray[np.float32]:
    """Radiograph (y, x) float32 in [0, 1] of `SIZE` mm, bright where much is attenuated; same arguments, same image."""
    return _Exposure(phantom, pixels).image(noise)


class _Exposure:
    """Thickness maps (y, x) on one pixel grid, x from the midline [mm], positive towards the patient's left."""

    def __init__(self, phantom: Thorax, pixels: int) -> None:
        self.phantom, self.pixels = phantom, pixels
        self.rng = np.random.default_rng([phantom.seed, 2])
        self.mm = SIZE / pixels
        centers = (np.arange(pixels) + 0.5) * self.mm
        self.y, self.x = centers[:, None], centers[None, :] - _MIDDLE
        self.wide = self.rng.uniform(0.95, 1.05)  # of the chest, relative
        self.low = self.rng.uniform(-6, 6)  # how deep the breath was [mm]

    def blur(self, image: np.ndarray, mm: float) -> np.ndarray:
        return gaussian_filter(image, mm / self.mm, mode="nearest")

    def image(self, noise: float) -> NDArray[np.float32]:
        lungs = self.lungs()
        attenuation = _TISSUE * (self.body() - (1 - _AIR_LEFT) * lungs + self.mediastinum() + self.vessels(lungs))
        attenuation += _BONE * (self.ribs() + self.clavicles() + self.spine() + self.scapulae())
        attenuation -= _TISSUE * (self.airways() + self.stomach())
        attenuation += self.opacity(lungs)
        attenuation = self.blur(np.maximum(attenuation, 0), 0.5)
        quanta = np.exp(-0.5 * attenuation)  # the amplitude of quantum noise goes with one over this
        grain = self.blur(self.rng.standard_normal(attenuation.shape), 0.22)
        grain /= grain.std()
        attenuation += noise * 0.006 / np.maximum(quanta, 0.08) * grain
        image = 1 / (1 + np.exp(-1.45 * (attenuation - 3.0)))
        image = np.clip((image - 0.013) / 0.95, 0, 1)
        if self.phantom.marker:
            image = np.maximum(image, 0.97 * self.lead_letter())
        return image.astype(np.float32)

    def noise_field(self, mm: float, rng: np.random.Generator | None = None) -> np.ndarray:
        """Smooth random field (y, x) of unit deviation that varies over `mm`."""
        field = self.blur((rng or self.rng).standard_normal((self.pixels, self.pixels)), mm)
        return field / field.std()

    # soft tissue -------------------------------------------------------------------------------------------------

    def half_width(self, y: np.ndarray) -> np.ndarray:
        """Of the body [mm]: neck, shoulders, flanks."""
        corners = [(-20, 52), (14, 54), (34, 66), (52, 128), (70, 168), (100, 188), (345, 178)]
        heights, widths = np.array(corners, float).T
        return self.wide * np.interp(y, heights, widths)

    def body(self) -> np.ndarray:
        width = self.blur(np.broadcast_to(self.half_width(self.y), (self.pixels, self.pixels)), 6)
        inside = np.clip(1 - (self.x / width) ** 2, 0, None)
        thick = np.interp(self.y, [0, 40, 90, 200, 345], [120, 135, 170, 205, 225])
        chest = thick * inside**0.42
        # the muscles of the chest and the skin fold of the armpit
        for side in (-1, 1):
            chest += 10 * _soft(Ellipse((120.0, side * 122.0), (62.0, 34.0), side * 25.0).depth(self.y, self.x), 0.5)
        return chest

    def cage(self, y: np.ndarray) -> np.ndarray:
        """Half width of the inside of the rib cage [mm], 0 above the apices."""
        place = np.clip((y - 52) / 215, 0, None)
        return self.wide * np.where(y > 52, 138 * np.clip(place, 0, 1) ** 0.36 * (1 - 0.04 * place), 0)

    def dome(self, side: int) -> np.ndarray:
        """Height of the diaphragm (1, x) [mm]: the liver lifts the patient's right side."""
        top = 256 + self.low + (9 if side > 0 else 0)
        across = (self.x * side - 62 * self.wide) / (76 * self.wide)
        return top + 34 * np.abs(across) ** 2.3

    def lungs(self) -> np.ndarray:
        """Air-filled depth (y, x) [mm] of both lungs."""
        total = np.zeros((self.pixels, self.pixels))
        for side in (-1, 1):
            across = self.x * side
            rim = self.cage(self.y) - across
            medial = across - self.medial(side)
            base = self.dome(side) - self.y
            edge = np.minimum(np.minimum(rim, medial), base)
            inside = self.blur((edge > 0).astype(float), 1.1)
            depth = np.interp(self.y, [52, 80, 130, 220, 300], [45, 92, 128, 142, 120])
            round_off = np.clip(edge / 30, 0, 1)
            total += inside * depth * (0.42 + 0.58 * np.sqrt(1 - (1 - round_off) ** 2))
        return total

    def medial(self, side: int) -> np.ndarray:
        """Where the lung ends towards the middle (y, 1) [mm from the midline]."""
        if side > 0:  # the patient's left: aortic knob, pulmonary trunk, the heart's left border
            heights, places = [52, 84, 100, 116, 132, 150, 172, 200, 232, 262, 300], [
                15, 24, 32, 35, 29, 31, 43, 62, 79, 84, 80,
            ]  # fmt: skip
        else:
            heights, places = [52, 84, 110, 140, 165, 190, 215, 240, 262, 300], [
                13, 19, 22, 24, 30, 38, 42, 40, 33, 30,
            ]  # fmt: skip
        smooth = np.interp(self.y, heights, places)
        return gaussian_filter(smooth, (5 / self.mm, 0), mode="nearest")

    def mediastinum(self) -> np.ndarray:
        heart = Ellipse((212.0 + 0.5 * self.low, 22.0), (66.0, 52.0), 38.0).depth(self.y, self.x)
        vessels = Ellipse((122.0, 6.0), (72.0, 26.0)).depth(self.y, self.x)
        knob = Ellipse((112.0, 21.0), (17.0, 14.0)).depth(self.y, self.x)
        above = np.clip((268 + self.low - self.y) / 24, 0, 1)  # it rests on the diaphragm, no lower rim is seen
        return 30 * above * _soft(heart, 0.5) + 14 * _soft(vessels, 0.5) + 14 * _soft(knob, 0.5)

    def airways(self) -> np.ndarray:
        """Air (y, x) [mm] in the trachea and the main bronchi."""
        trachea = self.tube([(0, 0), (60, 1), (128, 3)], 7.5)
        right, left = self.tube([(126, 2), (150, -20)], 5.5), self.tube([(126, 3), (152, 26)], 5.0)
        return 1.1 * np.maximum(trachea, np.maximum(right, left))

    def stomach(self) -> np.ndarray:
        """The bubble of gas (y, x) [mm] under the left dome."""
        bubble = _soft(Ellipse((287.0 + self.low, 74.0), (15.0, 26.0), 12.0).depth(self.y, self.x), 0.35)
        return 32 * bubble * (self.y > self.dome(1) + 6)

    def vessels(self, lungs: np.ndarray) -> np.ndarray:
        """Blood (y, x) [mm] in vessels that branch from the hila and thin out towards the rim."""
        total = np.zeros_like(lungs)
        for side in (-1, 1):
            hilum = (160.0 if side < 0 else 152.0, side * (36.0 if side < 0 else 44.0))
            for angle in np.linspace(-1.25, 1.45, 9) + self.rng.normal(0, 0.08, 9):
                start = (hilum[0] + 16 * np.sin(angle), hilum[1] + side * 5 * np.cos(angle))
                self._branch(total, start, angle, side, self.rng.uniform(2.8, 4.2), 0)
            total += 14 * _soft(Ellipse(hilum, (24.0, 13.0), -side * 15.0).depth(self.y, self.x), 1.0)
        inside = np.clip(lungs / 60, 0, 1)
        markings = 1.6 * np.abs(self.noise_field(1.4)) + 1.5 * self.noise_field(5)
        return inside * (1.6 * self.blur(total, 0.6) + markings)

    def _branch(
        self, total: np.ndarray, start: tuple[float, float], angle: float, side: int, radius: float, level: int
    ) -> None:
        """Add a vessel from `start` [mm] outwards, and the two that it divides into."""
        length = self.rng.uniform(20, 34) * 0.86**level
        bend = self.rng.normal(0, 0.16)
        points = [start]
        for _ in range(4):
            angle += bend / 4
            y, x = points[-1]
            points.append((y + 0.25 * length * np.sin(angle), x + side * 0.25 * length * np.cos(angle)))
        np.maximum(total, 1.7 * self.tube(points, radius), out=total)
        if level < 4 and radius > 0.7:
            for turn in (-1, 1):
                fork = angle + turn * self.rng.uniform(0.2, 0.5)
                self._branch(total, points[-1], fork, side, radius * self.rng.uniform(0.62, 0.78), level + 1)

    # bones ---------------------------------------------------------------------------------------------------------

    def tube(self, points: list[tuple[float, float]] | np.ndarray, radius: float) -> np.ndarray:
        """Depth (y, x) [mm] of a round tube along a line of points (y, x from the midline) [mm]."""
        distance, window = self.distance(np.asarray(points, float), radius + 2)
        depth = np.zeros((self.pixels, self.pixels))
        depth[window] = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
        return depth

    def distance(self, points: np.ndarray, margin: float) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Distance [mm] to a line of points, in the window of the grid that it can reach."""
        place = (points + np.array([0, _MIDDLE])) / self.mm
        low = np.clip(np.floor(place.min(axis=0) - margin / self.mm).astype(int), 0, self.pixels - 1)
        high = np.clip(np.ceil(place.max(axis=0) + margin / self.mm).astype(int) + 1, low + 1, self.pixels)
        scale = 3  # drawn finer, or the edges of thin tubes are stairs
        size = (high - low) * scale
        canvas = Image.new("1", (int(size[1]), int(size[0])), 1)
        line = [(float(x), float(y)) for y, x in (place - low) * scale]
        ImageDraw.Draw(canvas).line(line, fill=0, width=1, joint="curve")
        fine = distance_transform_edt(np.asarray(canvas))
        coarse = fine.reshape(size[0] // scale, scale, size[1] // scale, scale).mean(axis=(1, 3))
        return coarse * self.mm / scale, (slice(low[0], high[0]), slice(low[1], high[1]))

    def hollow(self, points: np.ndarray, radius: float, wall: float) -> np.ndarray:
        """Depth (y, x) [mm] of a bone with a spongy inside: its edges are brighter than its middle."""
        return self.tube(points, radius) - 0.78 * self.tube(points, radius - wall)

    def ribs(self) -> np.ndarray:
        total = np.zeros((self.pixels, self.pixels))
        turn = np.linspace(0, np.pi / 2, 40)
        for number in range(1, 11):
            top = 52 + 21.5 * (number - 1) + self.rng.normal(0, 0.8)
            drop = 8 + 5.2 * number  # from the spine to the flank [mm]
            radius = 4.0 + 0.13 * number
            for side in (-1, 1):
                flank_y = min(top + drop, 292)
                flank = float(self.cage(np.array(flank_y))) + 2 if number > 1 else 58.0
                rise = 5 + 0.6 * number
                y = top - rise * np.sin(2 * turn) + drop * (1 - np.cos(turn)) ** 1.25
                x = 8 + (flank - 8) * np.sin(turn)
                behind = np.clip((np.abs(self.x) - 12) / 14, 0.25, 1)  # what lies behind the spine hardly shows
                total += 1.25 * behind * self.hollow(np.stack([y, side * x], 1), radius, 1.6)
                if 1 < number < 8:  # the part in front runs back down to the breast-bone and ends in cartilage
                    run = np.linspace(0, 1, 30)
                    front_y = y[-1] + (30 + 5.0 * number) * run**0.85
                    front_x = flank - (flank - 62 - 3 * number) * run**1.7
                    fade = np.clip((np.abs(self.x) - 58 - 3 * number) / 22, 0, 1)
                    total += 0.75 * fade * self.hollow(np.stack([front_y, side * front_x], 1), radius + 0.6, 1.7)
        return total

    def clavicles(self) -> np.ndarray:
        run = np.linspace(0, 1, 40)
        total = np.zeros((self.pixels, self.pixels))
        for side in (-1, 1):
            tilt = self.rng.normal(0, 2)
            y = 84 - (30 + tilt) * run - 7 * np.sin(2 * np.pi * run)
            x = 13 + 122 * self.wide * run
            total += 1.5 * self.hollow(np.stack([y, side * x], 1), 6.2, 1.9)
        return total

    def spine(self) -> np.ndarray:
        """Vertebrae (y, x) [mm], one every 24 mm, with their discs, pedicles and spinous processes."""
        column = np.clip(1 - (np.abs(self.x) / 18) ** 6, 0, 1)
        beat = np.cos(2 * np.pi * (self.y - 40) / 24)
        total = column * (7 + 3 * np.clip(beat, -0.6, 0.5))
        for level in range(0, 13):
            y = 40 + 24 * level
            total += 2.5 * _soft(Ellipse((y + 12.0, 0.0), (8.0, 3.2)).depth(self.y, self.x), 0.5)
            for side in (-1, 1):
                total += 2 * _soft(Ellipse((y - 3.0, side * 12.0), (4.5, 3.0)).depth(self.y, self.x), 0.4)
        return self.blur(total, 0.8)

    def scapulae(self) -> np.ndarray:
        """Shoulder blades turned outwards, and the heads of the arms."""
        total = np.zeros((self.pixels, self.pixels))
        for side in (-1, 1):
            border = [(70, side * 122), (110, side * 127), (160, side * 139), (182, side * 149)]
            total += 0.55 * self.hollow(np.array(border, float), 4.5, 1.5)
            total += 4 * _soft(Ellipse((112.0, side * 146.0), (60.0, 22.0), side * 12.0).depth(self.y, self.x), 0.3)
            total += 22 * _soft(Ellipse((64.0, side * 158.0), (24.0, 22.0)).depth(self.y, self.x), 0.6)
            total += 16 * _soft(Ellipse((135.0, side * 178.0), (70.0, 13.0)).depth(self.y, self.x), 0.6)
        return total

    # what is planted --------------------------------------------------------------------------------------------------

    def opacity(self, lungs: np.ndarray) -> np.ndarray:
        """Attenuation (y, x) of fluid where there should be air: cloudy, dense in the middle, gone at the rim."""
        total = np.zeros_like(lungs)
        rng = np.random.default_rng(
            [self.phantom.seed, 3]
        )  # its own, so that the rest stays as it is without opacities
        for ellipse in self.phantom.opacities:
            cloud = 1 + 0.12 * self.noise_field(7, rng) + 0.07 * self.noise_field(2, rng)
            depth = np.clip(ellipse.depth(self.y, self.x + _MIDDLE), 0, 1)
            total += np.clip(depth / 0.55, 0, 1) ** 1.2 * cloud
        return _TISSUE * (1 - _AIR_LEFT) * np.minimum(lungs, 100) * np.clip(total, 0, 1.3)

    def lead_letter(self) -> np.ndarray:
        """The letter (y, x) in [0, 1] of a lead marker that fills its box."""
        box = self.phantom.marker_box
        (top, left), (bottom, right) = box.top_left, box.bottom_right
        canvas = Image.new("L", (self.pixels, self.pixels))
        draw = ImageDraw.Draw(canvas)
        draw.text(
            ((left + right) / 2 / self.mm, (top + bottom) / 2 / self.mm),
            self.phantom.marker,
            fill=255,
            anchor="mm",
            font=ImageFont.load_default(size=(bottom - top) / self.mm),
        )
        return self.blur(np.asarray(canvas) / 255.0, 0.3)


def _soft(depth: np.ndarray, rim: float) -> np.ndarray:
    """0 outside, rising to 1 within `rim` of an ellipse's depth, round like the section of a body."""
    place = np.clip(depth / rim, 0, 1)
    return np.sqrt(1 - (1 - place) ** 2)
