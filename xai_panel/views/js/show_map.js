// Lays the chosen map over the spectrogram and marks its profiles. Runs when the choice, the opacity or the sign changes
// and when a map arrives; everything it needs has been sent with the maps, so that nothing goes to the server.
export default ({ state, lines, maps, image, mapper, palettes, bars }) => {
  const [id] = state.data.method
  const [opacity] = state.data.opacity
  const [sign] = state.data.sign
  const row = lines.data.id.indexOf(id)
  const there = row >= 0

  if (there) {
    const signed = lines.data.signed[row]
    mapper.setv({
      palette: signed ? palettes[sign] : sign === "away" ? palettes.nothing : palettes.unsigned,
      low: signed ? -lines.data.reach[row] : 0,
      high: lines.data.reach[row],
    })
    image.glyph.global_alpha = { value: opacity }
    if (image.glyph.image.field !== id) {
      image.glyph.image = { field: id }
      maps.change.emit() // a glyph reads its columns when its source changes
    }
  }
  image.visible = there
  bars.text = there ? bars.tags[0] + lines.data.bar[row] : bars.tags[0]

  const widths = lines.data.id.map((name) => (name === id ? 3 : 1))
  const alphas = lines.data.id.map((name) => (name === id ? 1 : 0.4))
  if (widths.some((w, i) => w !== lines.data.width[i])) {
    lines.data.width = widths
    lines.data.alpha = alphas
    lines.change.emit()
  }
}
