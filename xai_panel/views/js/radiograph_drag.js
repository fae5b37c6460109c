// Dragging changes the window, as on a reading station: to the right wider, up brighter. args: fig, mode, center,
// level_width (widgets), full (width of all values). The widgets are synchronized when the mouse is released.
if (mode.data.value !== "Window")
  return
if (cb_obj.event_name === "panstart") {
  fig.grabbed = {center: center.data.value, width: level_width.data.value}
} else if (fig.grabbed != null) {
  const per_px = (level_width.data.end - level_width.data.start) / 600
  const clip = (v, w) => Math.min(w.data.end, Math.max(w.data.start, v))
  center.data.value = clip(fig.grabbed.center + cb_obj.delta_y * per_px, center)
  level_width.data.value = clip(fig.grabbed.width + cb_obj.delta_x * per_px, level_width)
}
