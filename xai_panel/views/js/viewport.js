// Tells the page whether the window is too narrow for a drawer beside the plots.
export function render({ model }) {
  const query = window.matchMedia(`(max-width: ${model.below - 1}px)`)
  const report = () => { model.narrow = query.matches }
  query.addEventListener("change", report)
  model.on("remove", () => query.removeEventListener("change", report))
  report()
  return document.createElement("span")
}
