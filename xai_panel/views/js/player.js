// Plays a recording and moves the playhead with the frames of the screen. Sound is sent once, as bytes, when it is first
// needed; an object URL gives the audio element random access to it. Time goes to Python on pause and seek only.
export function render({ model, view }) {
  const root = document.createElement("div")
  root.className = "player"
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", "Player")

  const audio = document.createElement("audio")
  audio.preload = "auto"
  const button = (label, text) => {
    const element = document.createElement("button")
    element.type = "button"
    element.setAttribute("aria-label", label)
    element.title = label
    element.innerHTML = text
    return element
  }
  const ICON = {
    play: '<svg viewBox="0 0 24 24"><path d="M8 5v14l11-7z"/></svg>',
    pause: '<svg viewBox="0 0 24 24"><path d="M6 5h4v14H6zM14 5h4v14h-4z"/></svg>',
    back: '<svg viewBox="0 0 24 24"><path d="M6 5h2v14H6zM20 5v14L9 12z"/></svg>',
    loop: '<svg viewBox="0 0 24 24"><path d="M7 7h10v3l4-4-4-4v3H5v6h2zm10 10H7v-3l-4 4 4 4v-3h12v-6h-2z"/></svg>',
  }
  const back = button("To the beginning", ICON.back)
  const toggle = button("Play", ICON.play)
  const loop = button("Loop", ICON.loop)
  loop.setAttribute("aria-pressed", "false")
  const clock = document.createElement("span")
  clock.className = "clock"
  const speed = document.createElement("select")
  speed.setAttribute("aria-label", "Speed")
  speed.title = "Speed"
  for (const rate of [0.25, 0.5, 0.75, 1, 1.5, 2]) {
    speed.add(new Option(`${rate}×`, String(rate), rate === 1, rate === 1))
  }
  const range = document.createElement("span")
  range.className = "range"
  const clear = button("Clear the selection", "×")
  clear.className = "clear"
  root.append(audio, back, toggle, loop, speed, clock, range, clear)

  const named = (name) => model.prefix && view.model.document.get_model_by_name(`${model.prefix}-${name}`)
  const heads = () => ["playhead-wave", "playhead-picture", "playhead-profile"].map(named).filter(Boolean)
  const box = () => named("selection")
  const selection = () => {
    const area = box()
    return area?.visible && area.right > area.left ? [area.left, area.right] : null
  }
  const stamp = (t) => {
    const minutes = Math.floor(t / 60)
    return `${minutes}:${(t - 60 * minutes).toFixed(2).padStart(5, "0")}`
  }

  let url = null
  let frame = null
  let moving = false // the playhead is moved by this player, not by a click
  let waiting = false // play as soon as the sound is here

  const now = () => model.start + audio.currentTime
  function place() {
    const t = now()
    moving = true
    for (const head of heads()) { head.setv({ location: t, visible: true }) }
    moving = false
    clock.textContent = `${stamp(t)} / ${stamp(model.start + model.duration)}`
  }
  function show() {
    const area = selection()
    range.textContent = area ? `${area[0].toFixed(2)}–${area[1].toFixed(2)} s` : "drag over the waveform to select"
    range.classList.toggle("hint", !area)
    clear.hidden = !area
  }
  function tick() {
    const area = selection()
    const stop = area ? area[1] : model.start + model.duration
    if (now() >= stop || audio.ended) {
      if (loop.getAttribute("aria-pressed") === "true") {
        audio.currentTime = Math.max(0, (area ? area[0] : model.start) - model.start)
        if (audio.paused) { audio.play() }
      } else {
        audio.pause()
        if (area) { audio.currentTime = Math.max(0, area[1] - model.start) }
        place()
        return
      }
    }
    place()
    frame = requestAnimationFrame(tick)
  }
  async function play() {
    if (!url) {
      waiting = true
      model.wanted += 1
      return
    }
    const area = selection()
    const stop = area ? area[1] : model.start + model.duration
    if (area && (now() < area[0] - 0.005 || now() >= stop - 0.01)) { audio.currentTime = area[0] - model.start }
    if (!area && now() >= stop - 0.01) { audio.currentTime = 0 }
    audio.playbackRate = Number(speed.value)
    await audio.play()
  }
  function seek(t) {
    audio.currentTime = Math.min(Math.max(0, t - model.start), model.duration)
    place()
    model.time = now()
  }

  function load() {
    audio.pause()
    if (url) { URL.revokeObjectURL(url) }
    url = model.sound?.byteLength ? URL.createObjectURL(new Blob([model.sound], { type: "audio/wav" })) : null
    if (url) {
      audio.src = url
      if (waiting) { play() }
    } else {
      audio.removeAttribute("src")
    }
    waiting = false
  }
  function reset() {
    place()
    for (const head of heads()) { head.visible = false }
    show()
  }

  audio.addEventListener("play", () => {
    toggle.innerHTML = ICON.pause
    toggle.setAttribute("aria-label", "Pause")
    toggle.title = "Pause"
    cancelAnimationFrame(frame)
    frame = requestAnimationFrame(tick)
  })
  audio.addEventListener("pause", () => {
    toggle.innerHTML = ICON.play
    toggle.setAttribute("aria-label", "Play")
    toggle.title = "Play"
    cancelAnimationFrame(frame)
    model.time = now()
  })
  toggle.addEventListener("click", () => (audio.paused ? play() : audio.pause()))
  back.addEventListener("click", () => seek(selection()?.[0] ?? model.start))
  loop.addEventListener("click", () => {
    loop.setAttribute("aria-pressed", String(loop.getAttribute("aria-pressed") !== "true"))
  })
  speed.addEventListener("change", () => { audio.playbackRate = Number(speed.value) })
  clear.addEventListener("click", () => { box()?.setv({ visible: false, left: 0, right: 0 }) })

  // The plots are Bokeh models of the same document: a click sets the playhead, a drag sets the selection.
  const followed = []
  function follow(target, property, react) {
    target.properties[property].change.connect(react)
    followed.push(() => target.properties[property].change.disconnect(react))
  }
  function attach() {
    const [head] = heads()
    if (!head) { return }
    follow(head, "location", () => { if (!moving) { seek(head.location) } })
    const area = box()
    const changed = () => {
      show()
      const chosen = selection()
      model.selection = chosen ?? [0, 0]
      if (chosen && audio.paused) { seek(chosen[0]) }
    }
    follow(area, "tags", changed)
    follow(area, "visible", changed)
  }

  model.on("sound", load)
  model.on(["start", "duration"], reset)
  model.on("remove", () => {
    cancelAnimationFrame(frame)
    audio.pause()
    if (url) { URL.revokeObjectURL(url) }
    for (const undo of followed) { undo() }
  })
  attach()
  load()
  reset()
  return root
}
