/**
 * The connection to the process: one stream of server-sent events, read with fetch so that a refusal can be shown, and opened again after a
 * break, after a little longer each time.
 */

const firstWait = 500
const longestWait = 15_000
/** nobody looks at a page that is hidden so long */
const hiddenFor = 60_000

/** Calls `onEvent(name, data)`, and `onState({ state, error, retryAt })` with "connecting", "live", "waiting" or "hidden". */
export const connect = ({ onEvent, onState }) => {
  let wanted = { consumer: "", find: "" }
  let lastId
  let failures = 0
  let every = 1_000
  let abort = new AbortController()
  let timer
  let alive
  let hidden = false

  /** Silence: the network may be gone without anybody's saying so. */
  const hear = () => {
    clearTimeout(alive)
    const current = abort
    alive = setTimeout(() => current.abort(new Error("nothing heard any more")), Math.max(5_000, 3 * every + 2_000))
  }

  const take = (text) => {
    let name = ""
    let data = ""
    for (const line of text.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7)
      else if (line.startsWith("id: ")) lastId = line.slice(4)
      else if (line.startsWith("data: ")) data += line.slice(6)
    }
    if (name === "closing") throw new Error("the process closes")
    const content = JSON.parse(data)
    if (name === "hello") every = content.everyMillis
    onEvent(name, content)
  }

  const read = async (signal) => {
    const response = await fetch(`events?${new URLSearchParams(wanted)}`, {
      signal,
      cache: "no-store",
      headers: lastId === undefined ? {} : { "last-event-id": lastId }
    })
    if (!response.ok) {
      const { error } = await response.json().catch(() => ({}))
      throw new Error(error ?? `the server answers ${response.status}`)
    }
    onState({ state: "live" })
    let rest = ""
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    while (true) {
      const { done, value } = await reader.read()
      if (done) throw new Error("the connection was closed")
      hear()
      const events = (rest + value).split("\n\n")
      rest = events.pop()
      for (const event of events) take(event)
      failures = 0
    }
  }

  const open = () => {
    clearTimeout(timer)
    abort.abort()
    const mine = (abort = new AbortController())
    onState({ state: "connecting" })
    hear()
    read(mine.signal).catch((error) => {
      if (mine !== abort || hidden) return
      mine.abort()
      clearTimeout(alive)
      const wait = Math.min(longestWait, firstWait * 2 ** failures++) * (0.8 + 0.4 * Math.random())
      const message = error instanceof TypeError ? "the process cannot be reached" : error.message
      onState({ state: "waiting", error: message, retryAt: Date.now() + wait })
      timer = setTimeout(open, wait)
    })
  }

  let hiding
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding)
    if (document.hidden) {
      hiding = setTimeout(() => {
        hidden = true
        clearTimeout(timer)
        clearTimeout(alive)
        abort.abort()
        onState({ state: "hidden" })
      }, hiddenFor)
    } else if (hidden) {
      hidden = false
      open()
    }
  })

  return {
    open,
    /** What is looked at; the charts of another consumer begin anew. */
    want: (next) => {
      if (next.consumer !== wanted.consumer) lastId = undefined
      wanted = next
      open()
    }
  }
}
