/** All partitions at once: a cell each, coloured by how it is, filled by how much lag it has. For more partitions than there are strips. */
import { byId, colour, context, element, setText } from "./dom.js"
import { plural } from "./format.js"

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
const levels = ["quiet", "working", "slow", "in trouble"]
const grounds = ["cell-quiet", "cell-working", "cell-slow", "cell-trouble"]
const inks = ["ink-quiet", "ink-working", "ink-slow", "ink-trouble"]
const size = 14
const gap = 2

export const cells = (choose) => {
  const root = byId("cells")
  const canvas = element("canvas", { tabIndex: 0, role: "img" })
  const hint = element("p", { class: "hint" })
  root.append(canvas, hint)
  let all = []
  let width = 0
  let at = -1
  let without = 0

  const columns = () => Math.max(1, Math.floor((width + gap) / (size + gap)))

  const draw = () => {
    if (root.hidden || width <= 0) return
    const across = columns()
    const rows = Math.ceil(all.length / across)
    const tall = rows * (size + gap)
    canvas.style.height = `${tall}px`
    const drawing = context(canvas, width, tall)
    all.forEach(({ lag, level }, i) => {
      const x = (i % across) * (size + gap)
      const y = Math.floor(i / across) * (size + gap)
      drawing.fillStyle = colour(grounds[level])
      drawing.fillRect(x, y, size, size)
      const filled = Math.round((lag / 15) * size)
      drawing.fillStyle = colour(inks[level])
      if (filled > 0) drawing.fillRect(x, y + size - filled, size, filled)
      if (level === 3) {
        // not by colour alone
        drawing.fillStyle = colour("cell-mark")
        drawing.fillRect(x + size / 2 - 1, y + 3, 2, 5)
        drawing.fillRect(x + size / 2 - 1, y + 9, 2, 2)
      }
      if (i === at) {
        drawing.strokeStyle = colour("text")
        drawing.lineWidth = 2
        drawing.strokeRect(x + 1, y + 1, size - 2, size - 2)
      }
    })
  }

  const say = () => {
    const cell = all[at]
    // the summary changes with every look: only what was pointed at is read out
    hint.setAttribute("aria-live", cell === undefined ? "off" : "polite")
    const counts = levels.map((name, level) => [name, all.filter((one) => one.level === level).length])
    const summary = counts
      .toReversed()
      .filter(([, n]) => n > 0)
      .map(([name, n]) => `${n} ${name}`)
      .join(", ")
    setText(
      hint,
      cell === undefined
        ? `${summary}${without > 0 ? `, ${without} more without a cell` : ""}. A cell is a partition; the fill is its lag.`
        : `${cell.topic}/${cell.partition}: ${levels[cell.level]}. Enter or a click finds it.`
    )
    canvas.setAttribute("aria-label", `${plural(all.length, "partition")}: ${summary}`)
  }

  const point = (next) => {
    if (next === at) return
    at = next
    say()
    draw()
  }
  const under = (event) => {
    const box = canvas.getBoundingClientRect()
    const column = Math.floor((event.clientX - box.left) / (size + gap))
    const i = Math.floor((event.clientY - box.top) / (size + gap)) * columns() + column
    return column < columns() && i >= 0 && i < all.length ? i : -1
  }
  canvas.addEventListener("pointermove", (event) => point(under(event)))
  canvas.addEventListener("pointerleave", () => point(-1))
  canvas.addEventListener("blur", () => point(-1))
  const take = (i) => {
    if (all[i] !== undefined) choose(`${all[i].topic}/${all[i].partition}`)
  }
  canvas.addEventListener("click", (event) => take(under(event)))
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[event.key]
    if (step !== undefined) {
      event.preventDefault()
      point(Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + step)))
    } else if (event.key === "Enter") take(at)
    else if (event.key === "Escape") point(-1)
  })
  new ResizeObserver(([entry]) => {
    width = Math.floor(entry.contentRect.width)
    draw()
  }).observe(root)

  return {
    draw,
    show: (detail, shownRows) => {
      all = detail.cells.flatMap(({ levels, partitions, topic }) => {
        let partition = 0
        return partitions.map((step, i) => {
          partition += step
          const code = alphabet.indexOf(levels[i])
          return { topic, partition, level: code >> 4, lag: code & 15 }
        })
      })
      without = detail.withoutCell
      root.hidden = all.length + without <= shownRows
      if (at >= all.length) at = -1
      say()
      draw()
    }
  }
}
