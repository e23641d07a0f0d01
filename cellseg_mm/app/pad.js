// The picture in the part Correct and teach: a click chooses a cell, dragging draws a box, keys do the rest. Places are fractions
// of the picture's width and height. The picture is replaced by each answer of the server, so the listeners are on the
// element around it.
const NUDGE = 0.01, FINE = 0.002, LEAST_DRAG = 0.004
let from = null, box = null, byKeys = false

const picture = () => element.querySelector('img')
const frame = () => element.querySelector('.box')
const ends = ['Enter', 'Escape']

function place(event) {
  const area = picture().getBoundingClientRect()
  const within = value => Math.min(Math.max(value, 0), 1)
  return [within((event.clientX - area.left) / area.width), within((event.clientY - area.top) / area.height)]
}

function show(corners) {
  box = corners
  if (!frame()) return
  frame().style.display = corners ? 'block' : 'none'
  if (!corners) return
  const [x0, y0, x1, y1] = corners
  const sides = {left: Math.min(x0, x1), top: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0)}
  for (const [name, value] of Object.entries(sides)) frame().style[name] = 100 * value + '%'
}

element.addEventListener('pointerdown', event => {
  if (event.target.tagName !== 'IMG' || event.button) return
  event.preventDefault()
  element.querySelector('.pad').focus({preventScroll: true})  // a page that moves would make the click a drag
  from = place(event)
})
window.addEventListener('pointermove', event => {
  if (from) show([...from, ...place(event)])
})
window.addEventListener('pointerup', event => {
  if (!from) return
  const to = place(event), start = from
  from = null
  const isBox = Math.abs(to[0] - start[0]) > LEAST_DRAG && Math.abs(to[1] - start[1]) > LEAST_DRAG
  show(null)
  trigger('click', isBox ? {box: [...start, ...to]} : {point: to})
})
element.addEventListener('keydown', event => {
  if (event.ctrlKey && event.key !== 'z') return
  let key = event.ctrlKey ? 'u' : event.key
  if (byKeys && (key.startsWith('Arrow') || ends.includes(key))) {
    event.preventDefault()
    if (ends.includes(key)) {
      const drawn = box
      byKeys = false
      show(null)
      if (key === 'Enter') trigger('click', {box: drawn})
      return
    }
    const step = event.altKey ? FINE : NUDGE
    const x = {ArrowLeft: -step, ArrowRight: step}[key] || 0, y = {ArrowUp: -step, ArrowDown: step}[key] || 0
    show(event.shiftKey ? [box[0], box[1], box[2] + x, box[3] + y] : [box[0] + x, box[1] + y, box[2] + x, box[3] + y])
    return
  }
  if (key === 'b' && picture()) {
    event.preventDefault()
    byKeys = true
    show([0.47, 0.47, 0.53, 0.53])
  } else if (/^[1-9nu]$/.test(key) || ['ArrowLeft', 'ArrowRight', 'Enter', 'Delete', 'Backspace'].includes(key)) {
    event.preventDefault()
    trigger('submit', {key})
  }
})
