// The mouse moves over one of the plots: all others follow. args: point, key (of the map, "" for a profile), x, y (which
// of the plot's axes gives x and which y: "x", "y" or "").
const at = point.data
point.data = {x: [x ? cb_obj[x] : at.x[0]], y: [y ? cb_obj[y] : at.y[0]], key: [key]}
