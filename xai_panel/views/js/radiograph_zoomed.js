// Tell the server what is in view once the person has stopped zooming and panning; it answers with a sharper crop.
// args: view (synchronized: x, y, dw, dh of what is in view).
clearTimeout(view.waiting)
view.waiting = setTimeout(() => {
  view.data = {x: [cb_obj.x0], y: [cb_obj.y1], dw: [cb_obj.x1 - cb_obj.x0], dh: [cb_obj.y0 - cb_obj.y1]}
}, 200)
