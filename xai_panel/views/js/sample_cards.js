// The generated samples as cards, for a page that shows nothing yet.
export function render({ model }) {
  const root = document.createElement("div")
  root.className = "cards"
  for (const { id, title, text } of model.samples) {
    const card = document.createElement("button")
    card.type = "button"
    const heading = document.createElement("b")
    heading.textContent = title
    const body = document.createElement("span")
    body.textContent = text
    card.append(heading, body)
    card.addEventListener("click", () => model.send_msg(id))
    root.append(card)
  }
  return root
}
