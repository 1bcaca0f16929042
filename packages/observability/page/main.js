/** What is looked at, and what an event changes. */
import { actionsOf } from "./actions.js"
import { charts } from "./charts.js"
import { connect } from "./connection.js"
import { showConsumers } from "./consumers.js"
import { showDetail } from "./detail.js"
import { byId, forgetColours, setText } from "./dom.js"
import { age, millis } from "./format.js"
import { partitions } from "./partitions.js"

const looked = { consumer: "", find: "" }
/** the process's clock minus ours */
let ahead = 0
/** of the newest look, by the process's clock */
let seenAt = 0
let newest
let state = { state: "connecting" }

const now = () => Date.now() + ahead

const connection = connect({
  onEvent: (name, data) => {
    if (name === "hello") {
      graphs.every(data.everyMillis)
      actions.offer(data.actions)
    } else if (name === "points") graphs.points(data)
    else if (name === "same" || name === "frame") {
      seenAt = data.at
      ahead = data.at - Date.now()
      if (name === "frame") newest = data.frame
      show()
    }
  },
  onState: (next) => {
    state = next
    showState()
  }
})

const choose = (consumer) => {
  if (consumer === looked.consumer) return
  looked.consumer = consumer
  remember()
  connection.want({ ...looked })
}

const graphs = charts(byId("charts"))
const actions = actionsOf(() => newest?.detail?.name)
const strips = partitions((find) => {
  if (find === looked.find) return
  looked.find = find
  remember()
  connection.want({ ...looked })
})

/** What is looked at stays over a reload, and can be sent to somebody. */
const remember = () => {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(looked)) if (value !== "") params.set(name, value)
  history.replaceState(null, "", `${location.pathname}${params.size > 0 ? `#${params}` : ""}`)
}

const recall = () => {
  const params = new URLSearchParams(location.hash.slice(1))
  for (const name of Object.keys(looked)) looked[name] = params.get(name) ?? ""
  strips.find(looked.find)
}

const show = () => {
  const { consumers, detail, loop, more } = newest
  byId("nothing").hidden = consumers.length > 0
  setText(byId("nothing"), "No consumer runs in this process.")
  byId("detail").hidden = detail === undefined
  showConsumers(consumers, more, detail?.name, choose)
  byId("loop").hidden = loop === undefined
  if (loop !== undefined) setText(byId("loop"), `event loop p99 ${millis(loop.p99)}`)
  const trouble = consumers.filter(({ status }) => status !== "ok").length
  document.title = `${trouble > 0 ? `(${trouble}) ` : ""}${detail?.name ?? "no consumer"} - concurrent-kafka`
  if (detail === undefined) return
  const summary = consumers.find(({ name }) => name === detail.name)
  graphs.add(detail, summary, now())
  showDetail(detail, summary, now(), graphs.rates())
  strips.show(detail, now())
  actions.show(detail, summary)
}

const showState = () => {
  const pill = byId("connection")
  pill.dataset.state = state.state
  byId("again").hidden = state.state !== "waiting"
  if (newest === undefined) byId("nothing").hidden = state.state !== "waiting"
  document.body.classList.toggle("stale", state.state === "waiting" && newest !== undefined)
  setText(
    byId("connection-text"),
    { connecting: "connecting", live: "live", hidden: "asleep", waiting: state.error }[state.state]
  )
  // what changes each second is not to be read out each second
  const left = Math.ceil((state.retryAt - Date.now()) / 1_000)
  const silent = newest === undefined ? "" : `, last seen ${age(now() - seenAt)} ago`
  setText(byId("connection-wait"), state.state === "waiting" ? `${silent}; trying again in ${Math.max(0, left)} s` : "")
}
setInterval(() => {
  if (state.state === "waiting") showState()
}, 1_000)
byId("again").addEventListener("click", () => connection.open())

const themes = ["system", "light", "dark"]
const stored = () => {
  try {
    return localStorage.getItem("theme") ?? "system"
  } catch {
    return "system"
  }
}
const dark = byId("dark")
const whereLiked = dark.media
const applyTheme = (theme) => {
  if (theme === "system") delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  dark.media = { system: whereLiked, light: "not all", dark: "all" }[theme] ?? whereLiked
  setText(byId("theme"), `Theme: ${theme}`)
  repaint()
}
const repaint = () => {
  forgetColours()
  graphs.repaint()
  strips.repaint()
}
byId("theme").addEventListener("click", () => {
  const next = themes[(themes.indexOf(stored()) + 1) % themes.length]
  try {
    localStorage.setItem("theme", next)
  } catch {
    // it holds until the page is closed
  }
  applyTheme(next)
})
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint)
// the charts are drawn in the colours that there are
dark.addEventListener("load", repaint)

setText(byId("host"), location.host)
applyTheme(stored())
recall()
connection.want({ ...looked })
