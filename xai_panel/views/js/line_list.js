// One check box per line, with its style: legend of the profiles and choice of the lines that are shown in one.
export function render({ model }) {
  const root = document.createElement("div")
  root.className = "lines"
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", model.heading)
  const DASHES = { solid: "", dashed: "6 4", dotted: "2 3", dashdot: "2 3 6 3" }

  function line({ color, dash, width }) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
    svg.setAttribute("viewBox", "0 0 26 8")
    svg.setAttribute("aria-hidden", "true")
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path")
    path.setAttribute("d", "M0 4H26")
    path.setAttribute("stroke", color)
    path.setAttribute("stroke-width", width)
    path.setAttribute("stroke-dasharray", DASHES[dash] ?? "")
    svg.append(path)
    return svg
  }

  function draw() {
    const hidden = new Set(model.hidden)
    root.replaceChildren(...model.entries.map((entry) => {
      const row = document.createElement("label")
      row.className = "row"
      const box = document.createElement("input")
      box.type = "checkbox"
      box.checked = !hidden.has(entry.key)
      box.dataset.key = entry.key
      box.addEventListener("change", () => {
        const keys = new Set(model.hidden)
        box.checked ? keys.delete(entry.key) : keys.add(entry.key)
        model.hidden = [...keys]
      })
      const title = document.createElement("span")
      title.textContent = entry.title
      row.append(box, line(entry), title)
      return row
    }))
  }

  model.on("entries", draw)
  model.on("hidden", () => {
    const hidden = new Set(model.hidden)
    for (const box of root.querySelectorAll("input")) { box.checked = !hidden.has(box.dataset.key) }
  })
  draw()
  return root
}
