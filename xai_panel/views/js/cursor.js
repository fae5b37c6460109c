// Moves the one cursor through all plots and writes the read-outs, from the numbers that the plots were drawn from.
const LOG_STEP = Math.log(6.4) / 27
const hertz = (mel) => (mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp(LOG_STEP * (mel - 15)))

function cell(data, x, y) {
  const [x0, y0, w, h] = [data.x[0], data.y[0], data.dw[0], data.dh[0]]
  if (x < x0 || x >= x0 + w || y < y0 || y >= y0 + h) { return null }
  return [(y - y0) / h, (x - x0) / w]
}

function value(array, [v, u]) {
  const [rows, columns] = array.shape
  return array[Math.floor(v * rows) * columns + Math.floor(u * columns)]
}

function number(value, digits) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toPrecision(digits)
}

export default (args, event) => {
  const { spans, levels, spectrum, maps, lines, state, axes, readout, picture, x_range } = args
  const [begin, end] = x_range.bounds
  const x = event.x
  if (x == null || !isFinite(x) || x < begin || x > end) { return }
  for (const span of spans) { span.setv({ location: x, visible: true }) }

  const parts = [`time ${x.toFixed(3)} s`]
  const inside = event.origin === picture
  for (const level of levels) { level.setv(inside ? { location: event.y, visible: true } : { visible: false }) }
  if (inside) {
    const frequency = axes.data.scale[0] === "mel" ? hertz(event.y) : event.y
    parts.push(`frequency ${Math.round(frequency)} Hz`)
    const place = cell(spectrum.data, x, event.y)
    if (place) {
      const low = axes.data.low[0]
      const dB = low + (value(spectrum.data.image[0], place) * (axes.data.high[0] - low)) / 255
      parts.push(`level ${number(dB, 3)} dBFS`)
    }
  }
  const row = lines.data.id.indexOf(state.data.method[0])
  if (row >= 0) {
    const title = lines.data.title[row]
    if (inside) {
      const place = cell(maps.data, x, event.y)
      if (place) {
        const attribution = value(maps.data[lines.data.id[row]][0], place) * lines.data.step[row]
        parts.push(`${title} ${number(attribution, 3)} ${lines.data.units[row]}`)
      }
    } else {
      const t = lines.data.t[row]
      const at = Math.round((x - t[0]) / (t[1] - t[0]))
      if (at >= 0 && at < t.length) { parts.push(`${title} ${number(lines.data.p[row][at], 2)} of its maximum`) }
    }
  }
  readout.text = parts.join("   ")
}
