/** Pause, resume and concurrency. Offered only where the process allows them; the token is kept until the page is closed, and nowhere else. */
import { byId, setText } from "./dom.js"

const again = "This was not the token. Once more:"

export const actionsOf = (consumerNow) => {
  let token
  let paused = false
  const dialog = byId("token-dialog")
  const field = byId("token")
  const permits = byId("permits")
  const say = (text, bad) => {
    const said = byId("said")
    setText(said, text)
    said.classList.toggle("bad", bad === true)
  }

  let answer
  const askForToken = (why) =>
    new Promise((resolve) => {
      answer = resolve
      setText(byId("token-why"), why)
      field.value = ""
      dialog.showModal()
    })
  const close = (value) => {
    dialog.close()
    field.value = ""
    answer?.(value)
    answer = undefined
  }
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault()
    close(field.value)
  })
  byId("token-cancel").addEventListener("click", () => close(undefined))
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault()
    close(undefined)
  })

  const send = async (action, done) => {
    const body = JSON.stringify({ consumer: consumerNow(), ...action })
    let why = "To change something here, give the token that this process was started with."
    while (true) {
      token ??= await askForToken(why)
      if (token === undefined) return
      if (!/^[!-~]+$/.test(token)) {
        // no header can carry it
        token = undefined
        why = again
        continue
      }
      const response = await fetch("actions", {
        method: "POST",
        headers: { "content-type": "application/json", "x-concurrent-kafka-token": token },
        body
      }).catch(() => undefined)
      if (response?.ok) return say(done)
      if (response?.status !== 401) {
        const { error } = (await response?.json().catch(() => undefined)) ?? {}
        return say(`Not done: ${error ?? "the process cannot be reached"}.`, true)
      }
      token = undefined
      why = again
    }
  }

  byId("pause").addEventListener("click", () => {
    void (paused
      ? send({ action: "resume" }, "Resumed.")
      : send({ action: "pause" }, "Paused: nothing new starts, what runs finishes."))
  })
  byId("concurrency").addEventListener("submit", (event) => {
    event.preventDefault()
    const concurrency = Number(permits.value)
    void send({ action: "concurrency", concurrency }, `At most ${concurrency} at once from now on.`)
  })

  let shown
  return {
    offer: (allowed) => {
      byId("actions").hidden = !allowed
    },
    show: (detail, { permits: { limit } }) => {
      if (shown !== detail.name) say("")
      shown = detail.name
      paused = detail.paused
      setText(byId("pause"), paused ? "Resume" : "Pause")
      setText(byId("permits-label"), detail.sessions > 1 ? "Concurrency of each member" : "Concurrency")
      if (document.activeElement !== permits)
        permits.value = limit === "unbounded" ? "" : String(limit / detail.sessions)
    }
  }
}
