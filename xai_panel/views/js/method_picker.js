// Check boxes of methods in families, each with its cost; a method that the classifier cannot be asked for says why.
export function render({ model }) {
  const root = document.createElement("div")
  root.className = "picker"

  function draw() {
    const chosen = new Set(model.value)
    root.replaceChildren(...model.groups.map(({ family, methods }) => {
      const set = document.createElement("fieldset")
      const legend = document.createElement("legend")
      legend.textContent = family
      set.append(legend, ...methods.map((method) => {
        const row = document.createElement("label")
        row.title = method.help
        row.className = method.reason ? "row off" : "row"
        const box = document.createElement("input")
        box.type = "checkbox"
        box.checked = chosen.has(method.id) && !method.reason
        box.disabled = Boolean(method.reason)
        box.dataset.method = method.id
        box.addEventListener("change", () => {
          const ids = new Set(model.value)
          box.checked ? ids.add(method.id) : ids.delete(method.id)
          model.value = model.groups.flatMap((g) => g.methods.map((m) => m.id)).filter((id) => ids.has(id))
        })
        const title = document.createElement("span")
        title.className = "title"
        title.textContent = method.title
        const cost = document.createElement("span")
        cost.className = "cost"
        cost.textContent = method.cost
        row.append(box, title, cost)
        if (method.reason) {
          const why = document.createElement("span")
          why.className = "why"
          why.textContent = method.reason
          row.append(why)
        }
        return row
      }))
      return set
    }))
  }

  model.on("groups", draw)
  model.on("value", () => {
    const chosen = new Set(model.value)
    for (const box of root.querySelectorAll("input")) { box.checked = chosen.has(box.dataset.method) && !box.disabled }
  })
  draw()
  return root
}
