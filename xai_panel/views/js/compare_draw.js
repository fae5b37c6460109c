// Titles, color ranges, sign and opacity of all maps. args: panels (one row per map: key, source, id, text, units, signed,
// low, high, ready), figures, mappers, glyphs, titles, bars (key → model), options (range, sign, opacity), point, palettes
// {signed: {both, toward, away}, unsigned: {both}}.
const {range: [range], sign: [sign], opacity: [opacity]} = options.data
const p = panels.data
const peak = new Map()
p.units.forEach((units, i) => {
  if (p.ready[i])
    peak.set(units, Math.max(peak.get(units) ?? 0, Math.abs(p.low[i]), Math.abs(p.high[i])))
})
p.key.forEach((key, i) => {
  if (figures[key] == null || figures[key].properties.inner_width.is_unset)
    return  // its figure is on its way; once it is laid out it is drawn
  const top = range === "Common range" && p.ready[i] ? peak.get(p.units[i]) : p.high[i]
  const colors = p.signed[i] ? palettes.signed[sign] : palettes.unsigned.both
  mappers[key].setv({low: p.signed[i] ? -top : 0, high: top, palette: colors})
  glyphs[key].global_alpha = opacity
  titles[key].text = p.text[i]
  bars[key].setv({title: p.units[i], visible: p.ready[i]})
})
point.properties.data.change.emit()  // also when the point is the same
