/** Throughput, latency and lag over time, with rebalances as marks. */
import { colour, element, setText } from "./dom.js"
import { drawnLag, millis, rate, short } from "./format.js"
import { makePoints, seconds } from "./points.js"

const uPlot = window.uPlot
/** the lower end of a logarithmic scale: nobody looks for less */
const leastMillis = 1
const height = 168

const kinds = [
  {
    name: "Throughput",
    unit: "records/s",
    format: rate,
    marks: "rebalance: + assigned, \u2212 revoked, ! lost",
    series: [
      { key: "done", label: "done", colour: "line-a", fill: "line-a-fill" },
      { key: "retries", label: "retries", colour: "line-b", dash: [5, 4] },
      { key: "failed", label: "dead letters and skipped", colour: "line-c" }
    ]
  },
  {
    name: "Latency",
    unit: "of the last minute",
    format: millis,
    // a record that waits for minutes and a handler of milliseconds in one picture
    log: true,
    series: [
      { key: "p50", label: "handler p50", colour: "line-a" },
      { key: "p99", label: "handler p99", colour: "line-d" },
      { key: "wait", label: "wait p99", colour: "line-b", dash: [5, 4] }
    ]
  },
  {
    name: "Lag",
    unit: "records",
    format: short,
    series: [{ key: "lag", label: "committed to end", colour: "line-a", fill: "line-a-fill" }]
  }
]

/** assigned, revoked and lost differ by their marks too */
const marks = { assigned: "+", revoked: "\u2212", lost: "!" }
/**
 * In CSS pixels: what is left free between two signs, and how far apart those are at most that share a place because there is none for
 * each. A rebalance is a revoke and, moments later, an assignment: one above the other nobody could read them.
 */
const apart = 2
const together = 24

const powersOfTen = (least, most) =>
  Array.from({ length: 12 }, (_, i) => 10 ** i).filter((value) => value >= least && value <= most)

/** a time of nothing is not there yet, and has no place on a logarithmic scale */
const drawn = ({ log }, value) => (!log || value === null ? value : value === 0 ? null : Math.max(leastMillis, value))

export const charts = (root) => {
  /** per second, and what is known at a time */
  const points = makePoints()
  let name
  let rebalances = []
  let shownTimes = [0, 1]

  const drawMarks = (plot) => {
    const { ctx: drawing } = plot
    const { height: tall, left, top, width } = plot.bbox
    const ratio = uPlot.pxRatio
    drawing.save()
    drawing.font = `${11 * ratio}px system-ui, sans-serif`
    drawing.textAlign = "center"
    drawing.lineWidth = ratio
    drawing.setLineDash([2 * ratio, 3 * ratio])
    const labels = []
    const textOf = (kinds) => Array.from(kinds, (kind) => marks[kind]).join(" ")
    const halfOf = (kinds) => drawing.measureText(textOf(kinds)).width / 2
    for (const { at, kind } of rebalances) {
      const x = Math.round(plot.valToPos(at / 1_000, "x", true))
      if (x < left || x > left + width) continue
      drawing.strokeStyle = colour(kind === "lost" ? "trouble" : "mark")
      drawing.beginPath()
      drawing.moveTo(x, top)
      drawing.lineTo(x, top + tall)
      drawing.stroke()
      const near = labels.at(-1)
      const taken = near === undefined ? 0 : (near.from + near.to) / 2 + halfOf(near.kinds) + apart * ratio
      if (near === undefined || x - halfOf([kind]) >= taken || x - near.from >= together * ratio) {
        labels.push({ from: x, to: x, kinds: new Set([kind]) })
      } else {
        near.to = Math.max(near.to, x)
        near.kinds.add(kind)
      }
    }
    let free = 0
    for (const { from, kinds, to } of labels) {
      const half = halfOf(kinds)
      const x = Math.max((from + to) / 2, free + half)
      free = x + half + apart * ratio
      drawing.fillStyle = colour(kinds.has("lost") ? "trouble" : "mark")
      drawing.fillText(textOf(kinds), x, top - 3 * ratio)
    }
    drawing.restore()
  }

  const axis = (format, extra) => ({
    stroke: () => colour("muted"),
    grid: { stroke: () => colour("grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    ...(format === undefined
      ? {}
      : { values: (_, values) => values.map((value) => (value === null ? "" : format(value))) }),
    ...extra
  })

  const figures = kinds.map((kind) => {
    const values = kind.series.map(() => element("span", { class: "now" }))
    const keys = element(
      "span",
      { class: "keys" },
      ...kind.series.map((series, i) =>
        element(
          "span",
          { class: "key" },
          element("span", { class: `dash ${series.colour}`, "aria-hidden": "true" }),
          series.label,
          values[i]
        )
      ),
      ...(kind.marks === undefined
        ? []
        : [
            element(
              "span",
              { class: "key" },
              element("span", { class: "dash mark", "aria-hidden": "true" }),
              kind.marks
            )
          ])
    )
    const plotted = element("div", { class: "plot", role: "img" })
    root.append(
      element(
        "figure",
        { class: "panel chart" },
        element("figcaption", {}, element("h3", {}, kind.name), element("span", { class: "facts" }, kind.unit)),
        plotted,
        keys
      )
    )
    const plot = new uPlot(
      {
        width: 300,
        height,
        padding: [14, 28, 0, 0],
        legend: { show: false },
        cursor: { points: { size: 6 }, sync: { key: "time" }, drag: { x: false, y: false } },
        scales: {
          x: { time: true, range: () => shownTimes },
          y: kind.log
            ? {
                distr: 3,
                log: 10,
                range: (_, __, max) => [leastMillis, Math.max(100, 10 ** Math.ceil(Math.log10(max ?? 1)))]
              }
            : { range: (_, __, max) => [0, Math.max(1, (max ?? 0) * 1.15)] }
        },
        axes: [
          axis(undefined, { space: 70, size: 26, values: "{HH}:{mm}:{ss}" }),
          axis(kind.format, {
            size: 52,
            space: 34,
            ...(kind.log ? { splits: (_, __, least, most) => powersOfTen(least, most) } : {})
          })
        ],
        series: [
          {},
          ...kind.series.map((series) => ({
            label: series.label,
            stroke: () => colour(series.colour),
            width: 1.6,
            ...(series.dash === undefined ? {} : { dash: series.dash }),
            ...(series.fill === undefined ? {} : { fill: () => colour(series.fill) }),
            points: { show: false }
          }))
        ],
        hooks: {
          draw: [drawMarks],
          setCursor: [({ cursor }) => showValues(cursor.idx)]
        }
      },
      [[], ...kind.series.map(() => [])],
      plotted
    )
    // an axis that uPlot has only a picture of: said in words beside it
    plot.root.setAttribute("aria-hidden", "true")
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width)
      if (width > 0 && width !== plot.width) plot.setSize({ width, height })
    }).observe(plotted)
    return { kind, plot, plotted, values }
  })

  const showValues = (index) => {
    const all = points.all()
    const point = all[index ?? all.length - 1] ?? points.last()
    if (point === undefined) return
    for (const { kind, plotted, values } of figures) {
      const texts = kind.series.map(({ key, label }) => [
        label,
        point[key] === null ? "-" : kind.format(point[key] ?? 0)
      ])
      texts.forEach(([, text], i) => setText(values[i], text))
      plotted.setAttribute(
        "aria-label",
        `${kind.name} of the last minutes; now ${texts.map(([label, text]) => `${label} ${text}`).join(", ")}`
      )
    }
  }

  const draw = () => {
    const all = points.all()
    const newest = all.at(-1)?.at ?? Date.now()
    const from = Math.min(newest - 60_000, Math.max(newest - seconds * 1_000, all[0]?.at ?? newest))
    shownTimes = [from / 1_000, newest / 1_000]
    for (const { kind, plot } of figures) {
      plot.setData([
        all.map(({ at }) => at / 1_000),
        ...kind.series.map(({ key }) => all.map((point) => drawn(kind, point[key])))
      ])
    }
    showValues(undefined)
  }

  return {
    every: points.every,
    points: ({ all, name: of, points: given }) => {
      if (all || of !== name) {
        points.clear()
        name = of
      }
      for (const point of given) points.push(point)
      draw()
    },
    add: (detail, summary, at) => {
      rebalances = detail.rebalances
      points.push({
        at,
        done: summary.done,
        failed: detail.outcomes.skipped + detail.outcomes.deadLettered,
        retries: detail.retries,
        p50: detail.handlerTime.p50,
        p99: detail.handlerTime.p99,
        wait: detail.waitTime.p99,
        lag: drawnLag(summary.totals)
      })
      draw()
    },
    rates: points.rates,
    repaint: draw
  }
}
