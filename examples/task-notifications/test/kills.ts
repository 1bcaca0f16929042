/**
 * `kill -9` of either process in the middle of its work, ten times: `npm run kills`. Takes less than 90 s.
 *
 * Users make, change, complete and delete tasks all the while. The kills of `worker` come at the worst moments: a mail server has a message,
 * and its yes is not read yet; events are sent, and have not reached Kafka; Kafka has events, and its yes is not read yet. At the end
 * nothing waits any more, and
 * - every change that the API had confirmed is in the audit table, and every event of the outbox is there exactly once, per user in order;
 * - Kafka has some events twice, or nothing was tried;
 * - every request is exactly one notification row, and each of them says "sent";
 * - every e-mail has arrived under its Message-ID, and there are never more repetitions than kills of `worker` up to then, and some.
 */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import * as Kafka from "@concurrent-kafka/test/kafka"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Duration, Effect, Exit, Fiber, Random, Schedule, type Scope } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Ports from "../../../test/kafka/ports.ts"
import { createTopics } from "../src/createTopics.ts"
import { mailSink } from "../src/mailSink.ts"
import { type Child, ready, start } from "./child.ts"

const kills = 10
const users = Array.from({ length: 20 }, (_, i) => `user-${i}`)

/** When `worker` is killed. */
const moments = [
  "an e-mail is taken",
  "events do not reach Kafka",
  "Kafka's yes does not come back",
  "at any moment"
] as const

const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

/** What the API has confirmed. */
interface Confirmed {
  readonly task: string
  readonly version: number
}

/** One user: makes a task, and then does something with it. What is not confirmed is not tried again: it may be there or not. */
const live = (url: string, user: string, confirmed: Array<Confirmed>) => {
  const ask = (method: string, path: string, body?: unknown) =>
    Effect.tryPromise(async () => {
      const answer = await fetch(`${url}${path}`, {
        method,
        headers: { "x-user-id": user, "content-type": "application/json" },
        signal: AbortSignal.timeout(5_000),
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      if (!answer.ok) throw new Error(`${answer.status}`)
      return answer.status === 204 ? undefined : ((await answer.json()) as { id: string; version: number })
    })
  const confirm = (task: { id: string; version: number }) =>
    Effect.sync(() => void confirmed.push({ task: task.id, version: task.version }))
  return Effect.gen(function* () {
    const task = yield* ask("POST", "/tasks", {
      title: "a task",
      channels: (yield* Random.nextBoolean) ? ["in_app", "email"] : ["in_app", "sms"]
    })
    if (task === undefined) return
    yield* confirm(task)
    yield* Effect.sleep(Duration.millis(yield* Random.nextIntBetween(50, 400)))
    const next = yield* Random.nextIntBetween(0, 3)
    const changed =
      next === 0
        ? yield* ask("PATCH", `/tasks/${task.id}`, { title: "another title" })
        : next === 1
          ? yield* ask("POST", `/tasks/${task.id}/complete`)
          : yield* ask("DELETE", `/tasks/${task.id}`)
    yield* confirm(changed ?? { id: task.id, version: task.version + 1 })
  }).pipe(
    // away: killed a moment ago
    Effect.catch(() => Effect.sleep("100 millis")),
    Effect.andThen(Effect.flatMap(Random.nextIntBetween(100, 900), (millis) => Effect.sleep(Duration.millis(millis)))),
    Effect.forever
  )
}

const counts = (db: DatabaseSync) => {
  const one = (query: string) => Number(db.prepare(query).get()?.["n"])
  return {
    events: one("SELECT COUNT(*) AS n FROM outbox WHERE topic = 'task-events'"),
    audited: one("SELECT COUNT(*) AS n FROM audit"),
    requests: one("SELECT COUNT(*) AS n FROM outbox WHERE topic = 'notification.request'"),
    notifications: one("SELECT COUNT(*) AS n FROM notifications"),
    sent: one("SELECT COUNT(*) AS n FROM notifications WHERE status = 'sent'"),
    waiting: one("SELECT COUNT(*) AS n FROM outbox WHERE sent_at IS NULL")
  }
}

/** Reads until it is so; in vain it says what was there instead. */
const until = <A>(what: string, read: () => A, is: (seen: A) => boolean) => {
  let last: A | undefined
  return Effect.sync(() => is((last = read()))).pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: (yes) => yes }),
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.die(new Error(`not within 30 seconds: ${what}; last seen: ${JSON.stringify(last)}`))
    })
  )
}

const judge = (
  db: DatabaseSync,
  confirmed: ReadonlyArray<Confirmed>,
  mails: ReadonlyArray<string>,
  mailsAtKills: ReadonlyArray<number>
): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const ids = (query: string) =>
    db
      .prepare(query)
      .all()
      .map((row) => String(row["id"]))
  const same = (what: string, a: ReadonlyArray<string>, b: ReadonlyArray<string>) => {
    if (JSON.stringify(a.toSorted()) !== JSON.stringify(b.toSorted())) {
      wrong.push(`${what}: ${a.length} and ${b.length}, ${a.filter((id) => !b.includes(id)).length} missing`)
    }
  }
  same(
    "events and rows of the audit table are not the same",
    ids("SELECT event_id AS id FROM outbox WHERE topic = 'task-events'"),
    ids("SELECT event_id AS id FROM audit")
  )
  same(
    "requests and notification rows are not the same",
    ids("SELECT event_id AS id FROM outbox WHERE topic = 'notification.request'"),
    ids("SELECT id FROM notifications")
  )
  const audited = ids("SELECT task_id || ' ' || json_extract(task_data, '$.version') AS id FROM audit")
  if (new Set(audited).size !== audited.length) wrong.push("a change is in the audit table twice")
  const known = new Set(audited)
  const lost = confirmed.filter(({ task, version }) => !known.has(`${task} ${version}`))
  if (lost.length > 0) wrong.push(`${lost.length} confirmed changes are not in the audit table`)
  const backwards = db
    .prepare(
      `SELECT COUNT(*) AS n FROM (SELECT outbox.id AS id, LAG(outbox.id) OVER (PARTITION BY audit.user_id ORDER BY audit.rowid) AS before
       FROM audit JOIN outbox ON outbox.event_id = audit.event_id) WHERE before > id`
    )
    .get()
  if (backwards?.["n"] !== 0) wrong.push(`events of one user went past each other ${String(backwards?.["n"])} times`)
  const unsent = ids("SELECT id FROM notifications WHERE status <> 'sent'")
  if (unsent.length > 0) wrong.push(`${unsent.length} notifications are not sent`)
  const expected = ids("SELECT notification_id AS id FROM deliveries WHERE channel = 'email'").map(
    (id) => `<${id}@tasks.example>`
  )
  same("e-mails that arrived are not those to be sent", expected, [...new Set(mails)])
  const repeatedOf = (some: ReadonlyArray<string>) => some.length - new Set(some).size
  for (const [kills, length] of [...mailsAtKills, mails.length].entries()) {
    const repeated = repeatedOf(mails.slice(0, length))
    if (repeated > kills) wrong.push(`${repeated} e-mails had come again after ${kills} kills of worker`)
  }
  if (repeatedOf(mails) === 0) wrong.push("no e-mail came again, so its kills have shown nothing")
  return wrong
}

const recordsOf = Effect.fnUntraced(function* (topics: ReadonlyArray<string>) {
  const { openAdmin } = yield* KafkaClient
  const admin = yield* openAdmin
  const ends = yield* admin.logOffsets(yield* admin.partitions(topics))
  return Number(ends.reduce((sum, { end }) => sum + end, 0n))
})

/** Nothing was wrong. */
let isGood = false

const story = Effect.gen(function* (): Effect.fn.Return<ReadonlyArray<string>, unknown, Scope.Scope> {
  const began = performance.now()
  const { brokers, nodes, proxied, source } = yield* Kafka.start({ own: true, proxy: true, heap: "256m" })
  // between worker and Kafka
  const proxy = nodes[0]!.proxy!
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "task-notifications-"))),
    // what the processes have said, and their databases, are kept where something is wrong
    (path) =>
      isGood ? Effect.sync(() => rmSync(path, { recursive: true, force: true })) : say(`what is left of it: ${path}`)
  )
  const names = ["task-events", "task-updates", "notification.request", "cover.request"]
  yield* createTopics(brokers, [...names, ...names.map((name) => `${name}.dead-letter`)], {
    partitions: 6,
    replicas: 1
  })

  const mails: Array<string> = []
  let onMail: (() => void) | undefined
  const smtp = yield* mailSink(({ messageId }) => {
    mails.push(messageId)
    // before the answer is on its way
    onMail?.()
  })
  const [api, worker] = yield* Ports.free(2)
  const ports = { api, worker }
  const urls = { api: `http://127.0.0.1:${ports.api}`, worker: `http://127.0.0.1:${ports.worker}` }
  const run = Effect.fnUntraced(function* (role: "api" | "worker") {
    const child = yield* start(
      role,
      {
        KAFKA_BOOTSTRAP_SERVERS: (role === "worker" ? proxied : brokers).join(","),
        DATABASE_FILE: join(folder, "tasks.sqlite"),
        HTTP_PORT: String(ports[role]),
        SMTP_URL: smtp,
        INSTANCE_ID: `${role}-1`
      },
      join(folder, `${role}.log`)
    )
    yield* ready(child, urls[role])
    return child
  })
  const running: Record<"api" | "worker", Child> = { api: yield* run("api"), worker: yield* run("worker") }
  const db = new DatabaseSync(join(folder, "tasks.sqlite"), { readOnly: true, timeout: 5_000 })
  yield* Effect.addFinalizer(() => Effect.sync(() => db.close()))
  yield* say(`Kafka (${source}), api and worker are up after ${((performance.now() - began) / 1000).toFixed(0)} s`)

  /** how many e-mails had arrived at each kill of worker */
  const mailsAtKills: Array<number> = []
  const confirmed: Array<Confirmed> = []
  const load = yield* Effect.forkChild(
    Effect.forEach(users, (user) => live(urls.api, user, confirmed), { concurrency: "unbounded", discard: true })
  )
  for (let n = 0; n < kills; n++) {
    const role = n % 2 === 0 ? "worker" : "api"
    // it works again, and the kill comes in the middle
    const before = counts(db).audited
    const done = confirmed.length
    yield* until(
      `${role} works`,
      () => ({ audited: counts(db).audited, confirmed: confirmed.length }),
      (now) => now.audited > before + 20 && now.confirmed > done + 20
    )
    yield* Effect.sleep(Duration.millis(yield* Random.nextIntBetween(0, 700)))
    const child = running[role]
    const moment = role === "worker" ? moments[(n / 2) % moments.length]! : "at any moment"
    if (moment === "an e-mail is taken") {
      onMail = () => {
        onMail = undefined
        process.kill(child.pid, "SIGKILL")
      }
    } else if (moment === "at any moment") yield* child.signal("SIGKILL")
    else {
      yield* proxy.blackhole(moment === "events do not reach Kafka" ? "requests" : "answers")
      const { waiting } = counts(db)
      yield* until(
        "the relay sends",
        () => counts(db).waiting,
        (now) => now > waiting + 10
      )
      yield* child.signal("SIGKILL")
    }
    yield* Effect.timeoutOrElse(child.exited, {
      duration: "30 seconds",
      orElse: () => Effect.die(new Error(`not killed within 30 seconds: ${role}, ${moment}`))
    })
    if (role === "worker") mailsAtKills.push(mails.length)
    // what was held is not to arrive any more, as if it had never left the process
    yield* proxy.cut
    yield* proxy.heal
    const { audited, events, waiting } = counts(db)
    yield* say(
      `kill ${n + 1}: ${role}, ${moment}; ${events} events, ${waiting} rows not sent, ${audited} audited, ${mails.length} e-mails`
    )
    running[role] = yield* run(role)
  }
  // what the API still does with the last requests is over before the end is looked at
  yield* Fiber.interrupt(load)
  yield* running.api.signal("SIGTERM")
  const ofApi = yield* running.api.exited
  yield* until(
    "nothing waits any more",
    () => counts(db),
    ({ audited, events, notifications, requests, sent, waiting }) =>
      waiting === 0 && audited >= events && notifications >= requests && sent >= notifications
  )
  yield* running.worker.signal("SIGTERM")
  const ends = [ofApi, yield* running.worker.exited]
  const records = yield* recordsOf(names).pipe(Effect.provide(KafkaJs.layer({ brokers })), Effect.scoped)
  const sent = Number(db.prepare("SELECT COUNT(*) AS n FROM outbox").get()?.["n"])
  const wrong = [
    ...judge(db, confirmed, mails, mailsAtKills),
    // what waited for Kafka's yes was there, whatever topic it was of
    ...(records > sent ? [] : ["no event was in Kafka twice, so this has shown nothing"])
  ]
  yield* say(
    `${confirmed.length} confirmed changes, ${counts(db).audited} events audited, ${sent} events in ${records} records of Kafka, ${counts(db).notifications} notifications, ` +
      `${new Set(mails).size} e-mails of which ${mails.length - new Set(mails).size} came again; ${((performance.now() - began) / 1000).toFixed(0)} s`
  )
  wrong.push(...ends.filter(({ code }) => code !== 0).map(({ code }) => `a process ended with ${code} at SIGTERM`))
  isGood = wrong.length === 0
  return wrong
}).pipe(Effect.scoped)

let code = 1
const program = Effect.gen(function* () {
  const wrong = yield* story
  for (const sentence of wrong) yield* say(`WRONG ${sentence}`)
  if (wrong.length === 0) yield* say("nothing is lost, and nothing counts twice")
  code = wrong.length === 0 ? 0 : 1
})

NodeRuntime.runMain(program, {
  // all that it started has ended; sockets of what was killed may not have, and would be waited for
  teardown: (exit) => process.exit(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? 130 : code)
})
