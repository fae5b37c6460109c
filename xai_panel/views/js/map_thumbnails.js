// One radio button per map, drawn small over its picture, with the line style of its profile. Arrow keys walk through them.
export function render({ model }) {
  const root = document.createElement("div")
  root.className = "thumbnails"
  root.setAttribute("role", "radiogroup")
  root.setAttribute("aria-label", model.heading)
  const group = `maps-${Math.random().toString(36).slice(2)}`
  const DASHES = { solid: "", dashed: "6 4", dotted: "2 3", dashdot: "2 3 6 3" }

  function line(color, dash) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
    svg.setAttribute("viewBox", "0 0 80 6")
    svg.setAttribute("preserveAspectRatio", "xMinYMid slice")
    svg.setAttribute("aria-hidden", "true")
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
    path.setAttribute("d", "M0 3H200")
    path.setAttribute("stroke", color)
    path.setAttribute("stroke-width", 3)
    path.setAttribute("stroke-dasharray", DASHES[dash] ?? "")
    svg.append(path)
    return svg
  }

  function card(entry) {
    const chosen = entry.id === model.value
    const card = document.createElement("label")
    card.className = `card${entry.image ? "" : " waiting"}${chosen ? " chosen" : ""}`
    card.title = entry.help
    const radio = document.createElement("input")
    radio.type = "radio"
    radio.name = group
    radio.checked = chosen
    radio.disabled = !entry.image
    radio.dataset.method = entry.id
    radio.setAttribute("aria-label", entry.title)
    radio.addEventListener("change", () => { model.value = entry.id })
    const frame = document.createElement("div")
    frame.className = "frame"
    if (entry.image) {
      const image = document.createElement("img")
      image.src = entry.image
      image.alt = ""
      frame.append(image)
    } else {
      frame.textContent = entry.note
    }
    const caption = document.createElement("div")
    caption.className = "caption"
    caption.append(line(entry.color, entry.dash), entry.title)
    card.append(radio, frame, caption)
    return card
  }

  function draw() {
    const focused = root.querySelector(":focus")?.dataset.method
    root.replaceChildren(...model.entries.map(card))
    if (model.entries.length === 0) {
      const empty = document.createElement("div")
      empty.className = "empty"
      empty.textContent = model.placeholder
      root.append(empty)
    }
    if (focused) { root.querySelector(`[data-method="${CSS.escape(focused)}"]`)?.focus() }
  }

  model.on(["entries", "value", "placeholder"], draw)
  draw()
  return root
}
