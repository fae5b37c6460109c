// The mouse moves over one of the plots: the others follow. args: point, x, y (whether this plot's axes give x and y).
const at = point.data
point.data = {x: [x ? cb_obj.x : at.x[0]], y: [y ? cb_obj.y : at.y[0]]}
