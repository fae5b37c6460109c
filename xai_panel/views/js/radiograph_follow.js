// The point under the cursor: lines through it, profiles of all maps along its row and its column, and its values in words.
// args: point (x, y; null: none yet), across, down (cursor lines), maps, styles, choice, profiles, picture, readout, axes
// (mm, suffix, hint, colored).
const {x: [px], y: [py]} = point.data
const {x: [left], y: [top], dw: [width], dh: [height]} = maps.data
const there = px != null && py != null
for (const [span, place] of [[across, py], [down, px]])
  span.setv({location: there ? place : 0, visible: there})

const cell = (source, column, x, y) => {
  const {x: [x0], y: [y0], dw: [w], dh: [h]} = source.data
  const image = source.data[column][0]
  const [rows, columns] = image.shape
  const [r, c] = [Math.floor((y - y0) / h * rows), Math.floor((x - x0) / w * columns)]
  return {image, rows, columns, r, c, inside: r >= 0 && r < rows && c >= 0 && c < columns}
}

const peak_of = (image) => image.peak ??= image.reduce((most, v) => Math.abs(v) > most ? Math.abs(v) : most, 0) || 1

const s = styles.data
const rows = {id: [], xs: [], row: [], column: [], ys: [], color: [], dash: [], width: [], alpha: []}
const [chosen] = choice.data.method
const at = there ? [px, py] : [left + width / 2, top + height / 2]
const order = s.id.map((_, i) => i).sort((a, b) => (s.id[a] === chosen) - (s.id[b] === chosen))  // the chosen one on top
for (const i of order) {
  if (maps.data[s.id[i]] == null)
    continue
  const {image, rows: n, columns: m, r, c, inside} = cell(maps, s.id[i], ...at)
  const peak = peak_of(image)
  rows.id.push(s.id[i])
  rows.xs.push(Array.from({length: m}, (_, k) => left + (k + 0.5) * width / m))
  rows.ys.push(Array.from({length: n}, (_, k) => top + (k + 0.5) * height / n))
  rows.row.push(Array.from({length: m}, (_, k) => inside ? image[r * m + k] / peak : NaN))
  rows.column.push(Array.from({length: n}, (_, k) => inside ? image[k * m + c] / peak : NaN))
  rows.color.push(s.color[i])
  rows.dash.push(s.dash[i])
  rows.width.push(s.id[i] === chosen ? 3 : 1.25)
  rows.alpha.push(s.id[i] === chosen ? 1 : 0.75)
}
profiles.data = rows

const number = (v) => v === 0 ? "0" : Math.abs(v) >= 0.01 && Math.abs(v) < 1e5 ? v.toPrecision(3) : v.toExponential(1)
const gray = cell(picture, "image", ...at)
const words = []
if (there && gray.inside) {
  const {mm: [mm], suffix: [suffix], colored: [colored]} = axes.data
  words.push(mm ? `x ${px.toFixed(1)} mm  y ${py.toFixed(1)} mm` : `x ${Math.floor(px)} px  y ${Math.floor(py)} px`)
  const value = gray.image[gray.r * gray.columns + gray.c]
  words.push(colored ? `R ${value & 255}  G ${value >> 8 & 255}  B ${value >> 16 & 255}`
    : `intensity ${Number(value.toFixed(2))}${suffix}`)
  const i = s.id.indexOf(chosen)
  if (i >= 0 && maps.data[chosen] != null) {
    const {image, r, c, columns, inside} = cell(maps, chosen, px, py)
    if (inside)
      words.push(`${s.title[i]} ${number(image[r * columns + c])} ${s.units[i]}`)
  }
}
readout.text = words.length ? words.join("   ·   ") : axes.data.hint[0]
