/**
 * A strip: what lies between what is committed and the end of the log.
 *
 * Its length grows with the logarithm of the number of records, so that ten and ten million have room; inside the part that was delivered
 * offsets are in proportion. Which of the records behind the last finished one are in flight is known by their number, not one by one: they
 * are drawn in front, as they were started.
 */
import { colour, context } from "./dom.js"

const height = 16
/** of the width: the committed end of the log, and what a great number takes at most */
const capShare = 0.05
const windowShare = 0.6
const lagShare = 0.35

/** What fills a strip: a power of ten, so that strips do not grow and shrink all the time. */
export const scaleOf = (rows) => {
  const greatest = rows.reduce((n, { delivered, lag = 0 }) => Math.max(n, delivered, lag - delivered), 0)
  return Math.max(100, 10 ** Math.ceil(Math.log10(Math.max(1, greatest))))
}

/** The parts of a row's delivered records: `[kind, from, to]`. What is drawn later lies over what was drawn before. */
export const partsOf = (row) => {
  const { delivered, gaps = 0, holes = "", parked = 0, prefix = 0, running = 0, sending = 0, waiting = 0 } = row
  const { behind = prefix, parts: count = 0 } = row
  const { known = behind } = row
  const parts = []
  const add = (kind, from, to) => {
    if (to > from) parts.push([kind, from, to])
  }
  add("done", 0, known)
  // some of them are done, and it is not told which
  add("unknown", known, behind)
  const tail = Math.max(0, delivered - behind)
  const begun = Math.min(tail, Math.max(0, running + waiting + sending + parked - gaps))
  add("flight", behind, behind + begun)
  add("held", behind + begun, behind + tail)
  const wide = (known - prefix) / count
  for (let i = 0; i < count; i++) {
    const digit = Number.parseInt(holes[i >> 2], 16)
    if ((digit >> (3 - (i & 3))) & 1) add("gap", prefix + i * wide, prefix + (i + 1) * wide)
  }
  return parts
}

let hatch
/** what was not fetched is hatched: it must not look like something that is held */
const hatched = (drawing) => {
  const lag = colour("lag")
  if (hatch?.lag !== lag) {
    const tile = document.createElement("canvas")
    tile.width = tile.height = 6
    const small = tile.getContext("2d")
    small.strokeStyle = lag
    small.lineWidth = 1.5
    small.beginPath()
    for (const x of [-3, 3, 9]) {
      small.moveTo(x - 3, 9)
      small.lineTo(x + 9, -3)
    }
    small.stroke()
    hatch = { lag, pattern: drawing.createPattern(tile, "repeat") }
  }
  return hatch.pattern
}

export const drawStrip = (canvas, width, row, now, scale) => {
  if (width <= 0) return
  const drawing = context(canvas, width, height)
  const share = (n) => Math.min(1, Math.log2(1 + n) / Math.log2(1 + scale))
  const top = 2
  const tall = height - 4
  const cap = Math.max(8, width * capShare)
  drawing.fillStyle = colour("committed")
  drawing.fillRect(0, top, cap - 1, tall)

  const delivered = row.delivered
  const long = delivered === 0 ? 0 : Math.max(10, width * windowShare * share(delivered))
  const x = (offset) => cap + (delivered === 0 ? 0 : (offset / delivered) * long)
  for (const [kind, from, to] of partsOf(row)) {
    drawing.fillStyle = colour(kind)
    // a gap of one record among thousands is what somebody looks for
    drawing.fillRect(x(from), top, Math.max(kind === "gap" ? 2 : 1, x(to) - x(from)), tall)
  }

  const ahead = row.lag === undefined ? 0 : Math.max(0, row.lag - delivered)
  if (ahead > 0) {
    const from = cap + long
    const wide = Math.max(6, width * lagShare * share(ahead))
    drawing.fillStyle = colour("lag-ground")
    drawing.fillRect(from, top, wide, tall)
    drawing.fillStyle = hatched(drawing)
    drawing.fillRect(from, top, wide, tall)
  }

  const { oldest } = row
  const since = oldest?.firstFailedAt ?? oldest?.since
  if (oldest !== undefined && (now - since >= 10_000 || !["running", "buffered"].includes(oldest.state))) {
    const at = x(Math.min(oldest.offset, delivered)) + 1
    drawing.fillStyle = colour(now - since >= 60_000 || oldest.state !== "running" ? "trouble" : "slow")
    drawing.beginPath()
    drawing.moveTo(at - 4, height)
    drawing.lineTo(at + 4, height)
    drawing.lineTo(at, height - 6)
    drawing.fill()
  }
}

export const stripHeight = height
