// One radio button per map, with the line style of its profile: legend of the profiles and choice of the overlay in one.
export function render({ model }) {
  const root = document.createElement("div")
  root.className = "maps"
  root.setAttribute("role", "radiogroup")
  root.setAttribute("aria-label", model.heading)
  const group = `maps-${Math.random().toString(36).slice(2)}`
  const DASHES = { solid: "", dashed: "6 4", dotted: "2 3", dashdot: "2 3 6 3" }

  function line(color, dash, bold) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
    svg.setAttribute("viewBox", "0 0 26 8")
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
    path.setAttribute("d", "M0 4H26")
    path.setAttribute("stroke", color)
    path.setAttribute("stroke-width", bold ? 4 : 2)
    path.setAttribute("stroke-dasharray", DASHES[dash] ?? "")
    svg.append(path)
    return svg
  }

  function draw() {
    const focused = root.querySelector(":focus")?.dataset.method
    const heading = document.createElement("div")
    heading.className = "heading"
    heading.textContent = model.heading
    root.replaceChildren(heading, ...model.entries.map((entry) => {
      const row = document.createElement("label")
      const bold = entry.id === model.value
      row.className = `row ${entry.state}${bold ? " bold" : ""}`
      row.title = entry.help
      const radio = document.createElement("input")
      radio.type = "radio"
      radio.name = group
      radio.checked = bold
      radio.disabled = entry.state !== "ready"
      radio.dataset.method = entry.id
      radio.addEventListener("change", () => { model.value = entry.id })
      const title = document.createElement("span")
      title.className = "title"
      title.textContent = entry.title
      row.append(radio, line(entry.color, entry.dash, bold), title)
      if (entry.note) {
        const note = document.createElement("span")
        note.className = "note"
        note.textContent = entry.note
        row.append(note)
      }
      return row
    }))
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
