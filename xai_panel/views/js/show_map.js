// Lays the chosen map over the spectrogram and marks its profiles. Runs when the choice, the opacity or the sign changes
// and when a map arrives; everything it needs has been sent with the maps, so that nothing goes to the server.
export default ({ state, lines, maps, shown, image, mapper, palettes, bars }) => {
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
    // The map is copied to a source of its own: a glyph that is pointed at another column keeps the old picture, because
    // its muted and decimated twins still show the old column and write into the arrays they share with it.
    const { x, y, dw, dh } = maps.data
    if (shown.data.image[0] !== maps.data[id][0]) { shown.data = { x, y, dw, dh, image: maps.data[id] } }
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
