// Draw the chosen map over the picture. args: fig, maps, styles, choice (method, sign, opacity), shown, mapper, bar, glyph,
// palettes {signed|unsigned: {both, toward, away}}, profiles, point.
if (fig.properties.inner_width.is_unset)
  return  // not laid out yet; once it is, it is drawn
const {method: [id], sign: [sign], opacity: [opacity]} = choice.data
const row = styles.data.id.indexOf(id)
const ready = row >= 0 && maps.data[id] != null
const {x, y, dw, dh} = maps.data
shown.data = {x, y, dw, dh, image: ready ? maps.data[id] : maps.data[""]}
if (ready) {
  const {signed, low, high, title, units} = styles.data
  const half = signed[row] ? sign : "both"
  mapper.setv({palette: palettes[signed[row] ? "signed" : "unsigned"][half], low: low[row], high: high[row]})
  bar.title = `${title[row]} [${units[row]}]`
}
bar.visible = ready
glyph.global_alpha = opacity
point.properties.data.change.emit()  // also when the point is the same
