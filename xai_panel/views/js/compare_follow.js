// The point under the cursor, in all maps: lines through it, the value of each map, and the profiles.
// args: point (x, y; null: none yet; key of the map that the mouse is over), across, down (cursor lines), panels, sources
// and sums (one per classifier, a column per map: its values, and their sum over frequency), labels (key → model),
// options (hidden), profiles [data source per plot], kind ("audio": one profile, the sum over frequency; "radiograph":
// the row and the column of the point), readout, axes.
const {x: [px], y: [py], key: [over]} = point.data
const there = px != null && py != null
for (const [span, place] of [[across, py], [down, px]])
  span.setv({location: place ?? 0, visible: place != null})

const number = (v) => v === 0 ? "0" : Math.abs(v) >= 0.01 && Math.abs(v) < 1e5 ? v.toPrecision(3) : v.toExponential(1)
const peak_of = (values) => values.peak ??= values.reduce((most, v) => Math.abs(v) > most ? Math.abs(v) : most, 0) || 1

const p = panels.data
const hidden = new Set(options.data.hidden[0])
const rows = profiles.map(() => ({xs: [], ys: [], color: [], dash: [], width: []}))
const draw = (plot, i, xs, ys) => {
  const columns = rows[plot]
  columns.xs.push(xs); columns.ys.push(ys)
  columns.color.push(p.color[i]); columns.dash.push(p.dash[i]); columns.width.push(p.key[i] === over ? 3.5 : p.width[i])
}
let words = ""
p.key.forEach((key, i) => {
  const {data} = sources[p.source[i]]
  const image = (data[p.id[i]] ?? [])[0]
  const label = labels[key]
  if (label == null)
    return  // its figure is on its way
  if (!p.ready[i] || image == null) {
    label.visible = false
    return
  }
  const {x: [left], y: [low], dw: [width], dh: [height]} = data
  const [n, m] = image.shape
  const at = there ? [px, py] : [left + width / 2, low + height / 2]
  const [r, c] = [Math.floor((at[1] - low) / height * n), Math.floor((at[0] - left) / width * m)]
  const inside = r >= 0 && r < n && c >= 0 && c < m
  const value = inside ? image[r * m + c] : NaN
  label.visible = there && inside && !isNaN(value)
  if (label.visible)
    label.text = number(value)
  if (key === over && label.visible)
    words = `   ·   ${p.title[i]} ${number(value)} ${p.units[i]}`
  if (hidden.has(key))
    return
  const xs = Array.from({length: m}, (_, k) => left + (k + 0.5) * width / m)
  if (kind === "audio") {
    const [sum] = sums[p.source[i]].data[p.id[i]]
    draw(0, i, xs, Array.from(sum, (v) => v / peak_of(sum)))
  } else if (inside) {
    const peak = peak_of(image)
    draw(0, i, xs, Array.from({length: m}, (_, k) => image[r * m + k] / peak))
    draw(1, i, Array.from({length: n}, (_, k) => low + (k + 0.5) * height / n),
      Array.from({length: n}, (_, k) => image[k * m + c] / peak))
  }
})
profiles.forEach((source, k) => { source.data = rows[k] })

const hertz = (mel) => mel < 15 ? mel * 200 / 3 : 1000 * Math.exp(Math.log(6.4) / 27 * (mel - 15))  // Slaney's scale
if (!there)
  readout.text = axes.hint
else if (kind === "audio")
  readout.text = `${px.toFixed(3)} s   ${hertz(py).toFixed(0)} Hz${words}`
else
  readout.text = (axes.units === "mm" ? `x ${px.toFixed(1)} mm   y ${py.toFixed(1)} mm`
    : `x ${Math.floor(px)} px   y ${Math.floor(py)} px`) + words
