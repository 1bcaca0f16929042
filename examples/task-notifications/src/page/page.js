/*
 * Tasks and notifications, live. When the server says hello everything is read; what is pushed meanwhile waits for that. It says so again when
 * nothing could be pushed until then. A task that is pushed twice, or late, is known by its version.
 */
const user = new URLSearchParams(location.search).get("user") ?? "ada"
const byId = (id) => document.getElementById(id)
byId("user").textContent = user

const tasks = new Map()
const notifications = new Map()

const ask = async (method, path, body) => {
  const answer = await fetch(path, {
    method,
    headers: { "x-user-id": user, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body)
  })
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `answered ${answer.status}`)
  const type = answer.headers.get("content-type") ?? ""
  if (type.startsWith("application/json")) return answer.json()
  return type === "" ? undefined : answer.blob()
}

/** A task that is gone stays known, so that an older change of it does not bring it back. */
const setTask = (task, gone = false) => {
  const known = tasks.get(task.id)
  if (known !== undefined && known.version >= task.version) return
  tasks.set(task.id, { ...task, gone })
}

/** Of two reports of one notification the one that says how it ended is the newer one, but for a failed one that was sent again. */
const setNotification = (notification) => {
  if (notifications.get(notification.id)?.status === "sent") return
  notifications.set(notification.id, notification)
}

const apply = ({ type, changes }) => {
  if (type === "task") setTask(changes)
  if (type === "task_deleted") setTask(changes, true)
  if (type === "notification") setNotification(changes)
}

// ---------------------------------------------------------------------------------------------------------------------
// What is seen. Text only: nothing that somebody has written becomes HTML.
// ---------------------------------------------------------------------------------------------------------------------

const element = (name, className, text) => {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

const button = (text, label, press) => {
  const made = element("button", "", text)
  made.setAttribute("aria-label", label)
  made.addEventListener("click", () => doing(press))
  return made
}

/** Addresses of pictures that are here, by their ids: an `img` cannot say who asks. */
const pictures = new Map()

const picture = ({ cover, title }) => {
  const made = element("img", "cover", "")
  made.alt = `Cover of ${title}`
  if (!pictures.has(cover)) {
    pictures.set(cover, "")
    const place = (address) => {
      pictures.set(cover, address)
      show()
    }
    // replaced or deleted meanwhile: the task says so, too
    ask("GET", `/covers/${cover}`).then(
      (blob) => place(URL.createObjectURL(blob)),
      () => pictures.delete(cover)
    )
  }
  const address = pictures.get(cover)
  if (address !== "") made.src = address
  return made
}

/** Of tasks that are gone, or have another one. */
const dropPictures = () => {
  const used = new Set([...tasks.values()].flatMap(({ cover, gone }) => (gone ? [] : [cover])))
  for (const [cover, address] of pictures) {
    if (used.has(cover)) continue
    URL.revokeObjectURL(address)
    pictures.delete(cover)
  }
}

const when = (moment) => new Date(moment).toLocaleString()

const taskItem = (task) => {
  const item = element("li", task.completed_at === null ? "" : "done", "")
  item.append(element("span", "title", task.title))
  if (task.completed_at === null) {
    item.append(
      button("Done", `Done: ${task.title}`, async () => setTask(await ask("POST", `/tasks/${task.id}/complete`)))
    )
  }
  item.append(
    button("Delete", `Delete: ${task.title}`, async () => {
      await ask("DELETE", `/tasks/${task.id}`)
      setTask({ ...task, version: task.version + 1 }, true)
    })
  )
  item.append(button("Cover", `Cover: ${task.title}`, () => ask("POST", `/tasks/${task.id}/cover`, {})))
  if (typeof task.cover === "string") item.append(picture(task))
  const due = task.due_at === null ? "" : `due ${when(task.due_at)}, `
  item.append(element("div", "facts", `${due}by ${task.channels.join(", ")}`))
  return item
}

const notificationItem = ({ created_at, message, status, title }) => {
  const item = element("li", status, "")
  item.append(element("span", "title", `${title}: ${message}`))
  item.append(element("div", "facts", `${status}, ${when(created_at)}`))
  return item
}

const newestFirst = (a, b) => b.created_at.localeCompare(a.created_at) || a.id.localeCompare(b.id)

const show = () => {
  dropPictures()
  const there = [...tasks.values()].filter(({ gone }) => !gone)
  byId("tasks").replaceChildren(...there.toSorted(newestFirst).map(taskItem))
  byId("notifications").replaceChildren(...[...notifications.values()].toSorted(newestFirst).map(notificationItem))
}

const doing = async (work) => {
  byId("error").textContent = ""
  try {
    await work()
  } catch (error) {
    byId("error").textContent = String(error.message)
  }
  show()
}

byId("new").addEventListener("submit", (event) => {
  event.preventDefault()
  const form = event.target
  const { due, email, sms, title } = form.elements
  const channels = ["in_app", ...(email.checked ? ["email"] : []), ...(sms.checked ? ["sms"] : [])]
  const due_at = due.value === "" ? null : new Date(due.value).toISOString()
  void doing(async () => {
    setTask(await ask("POST", "/tasks", { title: title.value.trim(), due_at, channels }))
    form.reset()
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// The connection
// ---------------------------------------------------------------------------------------------------------------------

/** Longer than two beats of the server. */
const silence = 25_000

const readAll = async () => {
  const [status, allTasks, allNotifications] = await Promise.all(
    ["/status", "/tasks", "/notifications"].map((path) => ask("GET", path))
  )
  byId("off").hidden = status.off.length === 0
  byId("off").textContent = `Kafka is switched off, so there is no: ${status.off.join(", ")}.`
  for (const known of [...tasks.values()]) if (!allTasks.some(({ id }) => id === known.id)) tasks.delete(known.id)
  allTasks.forEach((task) => setTask(task))
  allNotifications.forEach(setNotification)
}

const connect = () => {
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/live?user=${encodeURIComponent(user)}`)
  let waiting = []
  let hellos = 0
  let reading = Promise.resolve()
  let watch
  const heard = () => {
    clearTimeout(watch)
    watch = setTimeout(() => socket.close(), silence)
  }
  heard()
  socket.addEventListener("message", ({ data }) => {
    heard()
    const message = JSON.parse(data)
    if (message.type === "hello") {
      // from here on everything is pushed, or another hello comes; what was before is read, once at a time
      const mine = ++hellos
      waiting ??= []
      reading = reading.then(readAll).then(
        () => {
          if (mine !== hellos) return
          waiting.forEach(apply)
          waiting = undefined
          byId("connection").textContent = message.live ? "live" : "connected, without live updates"
          show()
        },
        () => socket.close()
      )
    } else if (waiting !== undefined) waiting.push(message)
    else {
      apply(message)
      show()
    }
  })
  socket.addEventListener("close", () => {
    clearTimeout(watch)
    byId("connection").textContent = "not connected, trying again ..."
    setTimeout(connect, 500)
  })
}
connect()
