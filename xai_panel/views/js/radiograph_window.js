// Window and level: black at center − width / 2, white at center + width / 2. args: mapper, center, level_width, invert,
// palettes {plain, inverted}.
const [c, w] = [center.data.value, Math.max(level_width.data.value, 1e-9)]
mapper.setv({low: c - w / 2, high: c + w / 2, palette: invert.data.value ? palettes.inverted : palettes.plain})
