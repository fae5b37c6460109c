// Square pixels in a frame of any shape: show the whole picture, or keep the center and scale of what was zoomed to.
// args: fig, whole (rectangle of the picture). Runs when the frame changes its size, on reset and when a picture arrives.
if (fig.properties.inner_width.is_unset || fig.properties.inner_height.is_unset)
  return  // not laid out yet
const {inner_width: w, inner_height: h, x_range: xr, y_range: yr} = fig
if (!(w > 1 && h > 1))
  return
const {x: [left], y: [top], dw: [width], dh: [height]} = whole.data
const [x0, x1, y0, y1] = [xr.start, xr.end, yr.end, yr.start]
const some = 1e-6 * (width + height)  // rounding is no zoom
const inside = x0 > left + some || x1 < left + width - some || y0 > top + some || y1 < top + height - some
const sized = cb_obj === fig && cb_obj.event_name === undefined
let [scale, cx, cy] = [Math.max(width / w, height / h), left + width / 2, top + height / 2]
if (sized && inside && whole.fitted === `${left} ${top} ${width} ${height}`)
  [scale, cx, cy] = [Math.max((x1 - x0) / w, (y1 - y0) / h), (x0 + x1) / 2, (y0 + y1) / 2]
whole.fitted = `${left} ${top} ${width} ${height}`
xr.setv({start: cx - scale * w / 2, end: cx + scale * w / 2})
yr.setv({start: cy + scale * h / 2, end: cy - scale * h / 2})
