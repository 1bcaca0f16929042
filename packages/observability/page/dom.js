/** Small helpers. Everything that comes from the process becomes a text node or a property: never markup. */

export const byId = (id) => document.getElementById(id)

/** An element with properties (`class`, `data-*` and `aria-*` as attributes) and children, of which texts are text nodes. */
export const element = (tag, properties = {}, ...children) => {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue
    if (name === "class") made.className = value
    else if (name.includes("-") || name === "role" || name === "scope") made.setAttribute(name, value)
    else made[name] = value
  }
  made.append(...children.filter((child) => child !== undefined))
  return made
}

/** Sets a text only where it is another one: a text that stays is not announced again, and not laid out again. */
export const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text
}

/**
 * The children of a list, one for each item: kept where the key stays, so that focus and hover stay too; in the order of the items.
 */
export const keyed = (parent, items, keyOf, make, update) => {
  const known = (parent.keyed ??= new Map())
  const wanted = new Set(items.map(keyOf))
  for (const [key, node] of known) {
    if (wanted.has(key)) continue
    node.remove()
    known.delete(key)
  }
  let before = null
  for (let i = items.length - 1; i >= 0; i--) {
    const key = keyOf(items[i])
    let node = known.get(key)
    if (node === undefined) {
      node = make(items[i])
      known.set(key, node)
    }
    update?.(node, items[i])
    if (node.parentNode !== parent || node.nextSibling !== before) parent.insertBefore(node, before)
    before = node
  }
}

/** Colours of the theme that is on, for what is drawn on a canvas: looked up once each. */
const seen = new Map()
export const colour = (name) => {
  if (!seen.has(name)) seen.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim())
  return seen.get(name)
}
export const forgetColours = () => seen.clear()

/** A canvas with as many dots as the screen has; draws in CSS pixels. */
export const context = (canvas, width, height) => {
  const ratio = Math.min(3, window.devicePixelRatio || 1)
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)]
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w
    canvas.height = h
  }
  const drawing = canvas.getContext("2d")
  drawing.setTransform(ratio, 0, 0, ratio, 0, 0)
  drawing.clearRect(0, 0, width, height)
  return drawing
}
