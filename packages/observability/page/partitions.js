/** The partitions: cells of all of them where there are many, and a table of the worst, each with its strip. */
import { cells } from "./cells.js"
import { byId, element, keyed, setText } from "./dom.js"
import { age, count, oldLevel, plural, short } from "./format.js"
import { drawStrip, scaleOf, stripHeight } from "./strip.js"

const rowsShown = 40

const legend = [
  ["committed", "committed"],
  ["done", "done, not committed yet"],
  ["gap", "gap: not done, a later one is"],
  ["unknown", "done or a gap, not told which"],
  ["flight", "in flight"],
  ["held", "held"],
  ["lag", "not fetched: lag"]
]

const cellNames = ["name", "strip", "lag", "flight", "held", "gaps", "oldest", "state"]

const makeRow = () => {
  const row = element("tr", { role: "row" })
  row.parts = {}
  for (const name of cellNames) {
    const cell =
      name === "name"
        ? element("th", { role: "rowheader", scope: "row", class: name })
        : element("td", {
            role: "cell",
            class: ["lag", "flight", "held", "gaps"].includes(name) ? `${name} number` : name
          })
    row.parts[name] = cell
    row.append(cell)
  }
  row.canvas = element("canvas", { height: stripHeight, "aria-hidden": "true" })
  row.words = element("span", { class: "unseen" })
  row.parts.strip.append(row.canvas, row.words)
  row.label = element("span", { class: "topic" })
  row.number = element("span", { class: "partition" })
  row.parts.name.append(row.label, row.number)
  row.chips = new Map()
  return row
}

/** What holds a partition up, worst first, in a word each. */
const chipsOf = ({ parked, paused = [], sending, state, waiting, zombies }) => [
  ...(zombies ? [["trouble", plural(zombies, "zombie")]] : []),
  ...(parked ? [["trouble", `${count(parked)} parked`]] : []),
  ...(waiting ? [["slow", plural(waiting, "retry", "retries")]] : []),
  ...(sending ? [["slow", `${count(sending)} to dead letters`]] : []),
  ...(state === undefined ? [] : [["slow", state]]),
  ...paused.filter((reason) => reason !== "holding").map((reason) => ["paused", reason === "user" ? "paused" : reason])
]

const inWords = (row) => {
  const { done = 0, gaps = 0, held = 0, running = 0 } = row
  return (
    `committed ${row.from}, then ${count(done)} done, ${plural(gaps, "gap")}, ${count(running)} in flight, ` +
    `${count(held)} held, ${row.lag === undefined ? "lag unknown" : `lag ${count(row.lag)}`}`
  )
}

export const partitions = (onFind) => {
  const table = byId("rows")
  const body = table.tBodies[0]
  const input = byId("find")
  const map = cells((text) => {
    input.value = text
    onFind(text)
    input.focus()
  })
  let width = 0
  let newest
  let shownAt = 0
  let scale = 1_000

  keyed(
    byId("legend"),
    legend,
    ([kind]) => kind,
    ([kind, text]) => element("li", {}, element("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text)
  )

  let typing
  input.addEventListener("input", () => {
    clearTimeout(typing)
    typing = setTimeout(() => onFind(input.value.trim()), 250)
  })

  const draw = () => {
    if (newest === undefined || width <= 0) return
    for (const row of body.rows) drawStrip(row.canvas, width, row.shown, shownAt, scale)
  }

  new ResizeObserver(() => {
    const first = body.rows[0]
    const next = first === undefined ? 0 : Math.floor(first.canvas.getBoundingClientRect().width)
    if (next === width) return
    width = next
    draw()
  }).observe(table)

  const update = (node, row) => {
    const { canvas, parts } = node
    node.shown = row
    node.dataset.level = String(row.level)
    setText(node.label, row.topic)
    setText(node.number, `/${row.partition}`)
    parts.name.title = `${row.topic}/${row.partition}`
    setText(node.words, inWords(row))
    parts.strip.title = node.words.textContent
    setText(parts.lag, row.lag === undefined ? "?" : short(row.lag))
    setText(parts.flight, count(row.running ?? 0))
    setText(parts.held, short(row.held ?? 0))
    setText(parts.gaps, count(row.gaps ?? 0))
    const old = row.oldest === undefined ? undefined : shownAt - row.oldest.receivedAt
    parts.oldest.dataset.level = row.oldest === undefined ? "0" : oldLevel(row.oldest, shownAt)
    setText(parts.oldest, old === undefined || old < 1_000 ? "" : `${age(old)}, ${row.oldest.state}`)
    parts.oldest.title =
      row.oldest === undefined
        ? ""
        : `offset ${BigInt(row.from) + BigInt(row.oldest.offset)}, attempt ${row.oldest.attempt}`
    keyed(
      parts.state,
      chipsOf(row),
      ([, text]) => text,
      ([kind, text]) => element("span", { class: `chip ${kind}` }, text)
    )
    if (width > 0) drawStrip(canvas, width, row, shownAt, scale)
  }

  return {
    find: (text) => {
      input.value = text
    },
    repaint: () => {
      draw()
      map.draw()
    },
    show: (detail, now) => {
      newest = detail
      shownAt = now
      scale = scaleOf(detail.rows)
      const total = detail.cells.reduce((n, { levels }) => n + levels.length, 0) + detail.withoutCell
      map.show(detail, rowsShown)
      keyed(body, detail.rows, ({ partition, topic }) => `${topic}/${partition}`, makeRow, update)
      if (width === 0 && body.rows[0] !== undefined) {
        width = Math.floor(body.rows[0].canvas.getBoundingClientRect().width)
        draw()
      }
      const searched = input.value.trim() !== ""
      setText(
        byId("partitions-count"),
        searched ? `${count(detail.found)} of ${count(total)}` : `${count(total)}, the worst first`
      )
      const left = detail.found - detail.rows.length
      setText(
        byId("rows-more"),
        total === 0
          ? "None is assigned to this consumer now."
          : detail.found === 0
            ? "No partition is like that."
            : left > 0
              ? `${plural(left, "partition")} more, less troubled than these.`
              : ""
      )
    }
  }
}
