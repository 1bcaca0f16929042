/**
 * What work for the CPU costs everything else in its process, in the event loop and on threads: `npm run covers`. Takes about two minutes.
 *
 * - Twenty users ask for covers, which need about 0.3 s of CPU each, and four connections ask for tasks all the while. Of these answers the
 *   99th percentile with covers drawn on a thread is at most a quarter of that with covers drawn in the event loop.
 * - Somebody asks for one that needs more than a minute, six times the session's timeout. Meanwhile what others do is answered, and is in the
 *   audit table soon. Its consumer loses nothing: no rebalance, no interruption; the cover is drawn once, and is there.
 */
import * as Kafka from "@concurrent-kafka/test/kafka"
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Effect, Exit, type Scope } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Ports from "../../../test/kafka/ports.ts"
import { drawCover } from "../src/cover.ts"
import { createTopics } from "../src/createTopics.ts"
import { type Child, ready, start } from "./child.ts"

const users = Array.from({ length: 20 }, (_, i) => `user-${i}`)
const measuredSeconds = 8
const askers = 4
const longSeconds = 60
/** p99 on a thread, as a part of that in the event loop. */
const mostRatio = 0.25
/** From a change to its row in the audit table. */
const mostAuditMillis = 5_000

const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

/** Between two looks. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 20))

/** Looks until it is so. */
const until = async (what: string, isSo: () => Promise<boolean>, forSeconds = 30) => {
  for (const began = performance.now(); !(await isSo());) {
    if (seconds(began) > forSeconds) throw new Error(`not within ${forSeconds} s: ${what}`)
    await pause()
  }
}

const seconds = (since: number) => (performance.now() - since) / 1000

interface TaskThere {
  readonly id: string
  readonly cover: string | null
}

const client = (url: string) => {
  const ask = async (user: string, method: string, path: string, body?: unknown) => {
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { "x-user-id": user, "content-type": "application/json" },
      signal: AbortSignal.timeout(30_000),
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
    return text
  }
  const read = async <A>(user: string, path: string) => JSON.parse(await ask(user, "GET", path)) as A
  return {
    newTask: async (user: string) =>
      (JSON.parse(await ask(user, "POST", "/tasks", { title: "a task" })) as TaskThere).id,
    askCover: (user: string, id: string, width: number) => ask(user, "POST", `/tasks/${id}/cover`, { width }),
    task: (user: string, id: string) => read<TaskThere>(user, `/tasks/${id}`),
    audited: async (user: string) =>
      (await read<ReadonlyArray<{ task_id: string }>>(user, "/audit")).map((e) => e.task_id),
    tasks: (user: string) => ask(user, "GET", "/tasks"),
    /** Of the consumer of covers: the sum of the samples of a metric, with such a label. */
    metric: async (name: string, label = "") =>
      (await ask("", "GET", "/metrics"))
        .split("\n")
        .filter((line) => line.startsWith(`${name}{`) && line.includes(`"cover-service"`) && line.includes(label))
        .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0)
  }
}
type Client = ReturnType<typeof client>

/** How long answers take, in ms from the shortest on, over so many connections that stay open. */
const answerTimes = async (http: Client, forSeconds: number): Promise<ReadonlyArray<number>> => {
  const times: Array<number> = []
  const began = performance.now()
  const one = async () => {
    while (seconds(began) < forSeconds) {
      const asked = performance.now()
      await http.tasks("somebody")
      times.push(performance.now() - asked)
      await pause()
    }
  }
  await Promise.all(Array.from({ length: askers }, one))
  return times.toSorted((a, b) => a - b)
}
const p99 = (times: ReadonlyArray<number>) => times[Math.floor(times.length * 0.99)] ?? Number.NaN

const drawn = (http: Client) => http.metric("concurrent_kafka_records_total", `outcome="handled"`)

/** p99 of answers while covers are drawn. */
const underLoad = async (http: Client) => {
  const ids = await Promise.all(users.map((user) => http.newTask(user)))
  // more than can be drawn meanwhile
  for (let n = 0; n < 10; n++) await Promise.all(users.map((user, i) => http.askCover(user, ids[i]!, 320)))
  await until("a cover is drawn", async () => (await drawn(http)) > 0)
  const before = await drawn(http)
  const began = performance.now()
  const times = await answerTimes(http, measuredSeconds)
  const perSecond = ((await drawn(http)) - before) / seconds(began)
  return { p99: p99(times), answers: times.length, perSecond }
}

/** One cover that takes longer than a minute, and what happens beside it. */
const longOne = async (http: Client): Promise<ReadonlyArray<string>> => {
  const wrong: Array<string> = []
  // so many pixels as this machine draws in that time, and a quarter more
  const cpu = process.cpuUsage()
  drawCover("a measure", 640)
  const { system, user } = process.cpuUsage(cpu)
  const width = Math.min(16_384, Math.ceil(640 * Math.sqrt((1.25 * longSeconds) / ((user + system) / 1e6))))
  const id = await http.newTask("patient")
  const state = async () => ({
    rebalances: await http.metric("concurrent_kafka_rebalances_total"),
    interrupted: await http.metric("concurrent_kafka_interrupted_attempts_total"),
    fenced: await http.metric("concurrent_kafka_fenced_total"),
    attempts: await http.metric("concurrent_kafka_attempts_total")
  })
  const before = await state()
  await http.askCover("patient", id, width)
  await until("it is drawn", async () => (await http.metric("concurrent_kafka_in_flight_records")) > 0)
  const began = performance.now()
  const auditTimes: Array<number> = []
  const answers: Array<number> = []
  for (let n = 0; (await http.task("patient", id)).cover === null; n++) {
    if (seconds(began) > 3 * longSeconds) return [`a cover of ${width} pixels is not there after ${seconds(began)} s`]
    const changed = performance.now()
    const other = await http.newTask(`other-${n}`)
    await until("a change is in the audit table", async () => (await http.audited(`other-${n}`)).includes(other))
    auditTimes.push(performance.now() - changed)
    answers.push(...(await answerTimes(http, 1)))
  }
  const took = seconds(began)
  const after = await state()
  const slowest = Math.max(...auditTimes)
  process.stdout.write(
    `one of ${width} pixels: ${took.toFixed(0)} s; meanwhile p99 of answers ${p99(answers.toSorted((a, b) => a - b)).toFixed(0)} ms, ` +
      `and ${auditTimes.length} changes of others were in the audit table within ${slowest.toFixed(0)} ms\n`
  )
  if (took < longSeconds) wrong.push(`it took ${took.toFixed(0)} s, less than the ${longSeconds} it is about`)
  if (slowest > mostAuditMillis)
    wrong.push(`a change of somebody else was in the audit table after ${slowest.toFixed(0)} ms`)
  const expected = { ...before, attempts: before.attempts + 1 }
  if (JSON.stringify(after) !== JSON.stringify(expected)) {
    wrong.push(`its consumer has lost something: ${JSON.stringify(before)} before, ${JSON.stringify(after)} after`)
  }
  return wrong
}

/** Nothing was wrong. */
let isGood = false

const story = Effect.gen(function* (): Effect.fn.Return<ReadonlyArray<string>, unknown, Scope.Scope> {
  const { brokers, source } = yield* Kafka.start({ heap: "256m" })
  yield* say(`Kafka: ${source}`)
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "task-notifications-"))),
    // what the processes have said, and their databases, are kept where something is wrong
    (path) =>
      isGood ? Effect.sync(() => rmSync(path, { recursive: true, force: true })) : say(`what is left of it: ${path}`)
  )
  const [port] = yield* Ports.free(1)
  const url = `http://127.0.0.1:${port}`
  const http = client(url)
  /** The whole service as one process, with topics of its own. */
  const run = Effect.fnUntraced(function* (name: string, threads: number) {
    const topics = {
      TASK_EVENTS_TOPIC: `${name}.task-events`,
      TASK_UPDATES_TOPIC: `${name}.task-updates`,
      NOTIFICATION_REQUEST_TOPIC: `${name}.notification.request`,
      COVER_REQUEST_TOPIC: `${name}.cover.request`
    }
    const names = Object.values(topics)
    yield* createTopics(brokers, [...names, ...names.map((topic) => `${topic}.dead-letter`)], {
      partitions: 6,
      replicas: 1
    })
    const child = yield* start(
      "all",
      {
        ...topics,
        KAFKA_BOOTSTRAP_SERVERS: brokers.join(","),
        DATABASE_FILE: join(folder, `${name}.sqlite`),
        HTTP_PORT: String(port),
        // nobody wants an e-mail here
        SMTP_URL: "smtp://127.0.0.1:1",
        COVER_THREADS: String(threads)
      },
      join(folder, `${name}.log`)
    )
    yield* ready(child, url)
    return child
  })
  const stop = Effect.fnUntraced(function* (child: Child) {
    yield* child.signal("SIGTERM")
    const { code } = yield* child.exited
    return code === 0 ? [] : [`a process ended with ${code} at SIGTERM`]
  })
  const measured = Effect.fnUntraced(function* (name: string, how: string) {
    const reading = yield* Effect.promise(() => underLoad(http))
    yield* say(
      `${name}, covers ${how}: p99 of ${reading.answers} answers ${reading.p99.toFixed(0)} ms, ${reading.perSecond.toFixed(1)} covers/s`
    )
    return reading
  })

  const inline = yield* run("inline", 0)
  const slow = yield* measured("inline", "in the event loop")
  const ends = yield* stop(inline)
  const offloaded = yield* run("offloaded", 1)
  const fast = yield* measured("offloaded", "on a thread")
  ends.push(...(yield* stop(offloaded)))
  const ratio = fast.p99 / slow.p99
  yield* say(`ratio ${ratio.toFixed(2)}, at most ${mostRatio}`)
  const patient = yield* run("patient", 1)
  const wrong: Array<string> = []
  const ofLong = yield* Effect.promise(() => longOne(http)).pipe(
    Effect.raceFirst(
      Effect.flatMap(patient.exited, ({ code }) => Effect.die(new Error(`the service ended with ${code}`)))
    )
  )
  ends.push(...(yield* stop(patient)))
  wrong.push(...ofLong)
  wrong.push(
    // what is asked for meanwhile takes time from the thread, too
    ...(fast.perSecond >= slow.perSecond / 2 ? [] : ["on a thread less than half as many covers are drawn"]),
    ...(ratio <= mostRatio ? [] : [`with covers on a thread p99 is ${ratio.toFixed(2)} of that in the event loop`]),
    ...ends
  )
  isGood = wrong.length === 0
  return wrong
}).pipe(Effect.scoped)

let code = 1
const program = Effect.gen(function* () {
  const wrong = yield* story
  for (const sentence of wrong) yield* say(`WRONG ${sentence}`)
  if (wrong.length === 0) yield* say("what computes is in nobody's way")
  code = wrong.length === 0 ? 0 : 1
})

NodeRuntime.runMain(program, {
  // all that it started has ended
  teardown: (exit) => process.exit(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? 130 : code)
})
