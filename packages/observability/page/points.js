/** What the charts have drawn of each look: counters as rates, of the last five minutes. */

export const seconds = 300

const nothing = {
  done: null,
  retries: null,
  failed: null,
  p50: null,
  p99: null,
  wait: null,
  lag: null
}

export const makePoints = () => {
  let points = []
  let every = 1_000
  let last
  let rates

  const clear = () => {
    points = []
    last = undefined
    rates = undefined
  }

  return {
    all: () => points,
    last: () => last,
    rates: () => rates,
    every: (millis) => {
      every = millis
    },
    clear,
    /** A look's counters become rates by the look before; where some are missing between the line has a hole. */
    push: (raw) => {
      // the clock was set back: what was drawn lies in the future, where nothing would be added until it has come
      if (last !== undefined && raw.at < last.at - every) clear()
      // the newest point of those that came first, once more
      if (last !== undefined && raw.at - last.at < every / 4) return
      const millis = last === undefined ? 0 : raw.at - last.at
      const same = last !== undefined && raw.done >= last.done && millis <= every * 4
      const per = (key) => (same ? ((raw[key] - last[key]) * 1_000) / millis : null)
      if (last !== undefined && !same) points.push({ at: last.at + 1, ...nothing })
      const point = { ...raw, done: per("done"), retries: per("retries"), failed: per("failed") }
      points.push(point)
      if (same) rates = { done: point.done }
      last = raw
      const oldest = raw.at - seconds * 1_000 - 5_000
      while (points.length > 0 && points[0].at < oldest) points.shift()
    }
  }
}
