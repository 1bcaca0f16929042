/**
 * What `/metrics` answers, read by Prometheus' own linter and by a real Prometheus. They come with Debian's package `prometheus`.
 */
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Boom, Desk, turns } from "../../core/test/harness.ts"
import { at, scripted } from "../../core/test/script.ts"
import { Observability } from "../src/index.ts"
import { alerts, dashboard, filledIn, folder, namesIn, panelQueries } from "./dashboards.ts"
import { familiesOf, samplesOf } from "./exposition.ts"
import { type Endpoints, endpoints } from "./http.ts"

const missing = ["promtool", "prometheus"].filter((name) => spawnSync(name, ["--version"]).status !== 0)
if (missing.length > 0 && process.env["CI"] !== undefined) {
  throw new Error(`${missing.join(" and ")} not found, and CI is set: install the Debian package prometheus`)
}
if (missing.length > 0) {
  process.stderr.write(`skipped: tests with Prometheus, because ${missing.join(" and ")} were not found\n`)
}

const promtool = (args: ReadonlyArray<string>, input?: string): string => {
  const { status, stderr, stdout } = spawnSync("promtool", args, { encoding: "utf8", input })
  assert.strictEqual(status, 0, `promtool ${args.join(" ")}\n${stdout}${stderr}`)
  return stdout + stderr
}

const name = 'shipping "eu" \\ 1'

/** A consumer in the middle of its work, with something in nearly every series. */
const busy: Effect.Effect<Endpoints, never, Effect.Services<ReturnType<typeof endpoints>>> = Effect.gen(function* () {
  const monitored = yield* Layer.build(Observability.layerLoopDelay)
  const http = yield* Effect.provideContext(endpoints(), monitored)
  const s = yield* scripted({
    name,
    batchSize: 1,
    desk: new Desk(),
    policy: FailurePolicy.make(({ record }) =>
      record.offset === 3n ? { _tag: "Retry", after: 3_600_000 } : { _tag: "Skip" }
    )
  })
  yield* Effect.orDie(http.registry.register(s.consumer))
  yield* s.session.assign([
    { partition: 0, epoch: 1, committed: 0 },
    { partition: 1, epoch: 2, committed: 0 }
  ])
  yield* s.session.chunk(0, 1, 0, 8)
  yield* s.session.chunk(1, 2, 0, 1)
  yield* s.desk.finish(0, 0, 1)
  yield* s.desk.end(0, 2, Exit.fail(new Boom()))
  yield* s.desk.end(0, 3, Exit.fail(new Boom()))
  yield* s.desk.finish(0, 5)
  yield* s.session.revoking([at(1, 2)], { exact: true })
  yield* s.desk.finish(1, 0)
  yield* turns
  // Node's timer has to have had its first turns
  for (;;) {
    const { text } = yield* http.get("/metrics")
    if (text.includes("nodejs_eventloop_delay_p99_seconds")) return http
  }
})

const freePort = Effect.promise(
  () =>
    new Promise<number>((resolve, reject) => {
      const server = createServer()
      server.once("error", reject)
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
      })
    })
)

const ended = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** A Prometheus that scrapes these endpoints twice a second, until the scope closes. */
const prometheus = (http: Endpoints) =>
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "prometheus-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
    )
    const port = yield* freePort
    const config = {
      global: { scrape_interval: "500ms", evaluation_interval: "1s" },
      rule_files: [join(folder, "alerts.yml")],
      scrape_configs: [{ job_name: "consumers", static_configs: [{ targets: [new URL(http.url).host] }] }]
    }
    // JSON is YAML
    writeFileSync(join(directory, "prometheus.yml"), JSON.stringify(config))
    let output = ""
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const started = spawn(
          "prometheus",
          [
            `--config.file=${join(directory, "prometheus.yml")}`,
            `--storage.tsdb.path=${join(directory, "data")}`,
            `--web.listen-address=127.0.0.1:${port}`
          ],
          { stdio: ["ignore", "ignore", "pipe"] }
        )
        started.stderr.on("data", (data) => (output += String(data)))
        return started
      }),
      (started) =>
        Effect.promise(async () => {
          if (ended(started)) return
          const over = new Promise((resolve) => started.once("exit", resolve))
          started.kill("SIGTERM")
          await over
        })
    )
    const url = `http://127.0.0.1:${port}`
    const api = (path: string) =>
      Effect.promise(async () => {
        try {
          const response = await fetch(`${url}/api/v1/${path}`, { headers: { connection: "close" } })
          return (await response.json()) as { readonly status: string; readonly data: Data; readonly error?: string }
        } catch {
          assert.isFalse(ended(child), output)
          return undefined
        }
      })
    /** Asked again until it is so. */
    const until = <A>(path: string, found: (data: Data) => A | undefined) =>
      Effect.gen(function* () {
        for (;;) {
          const answer = yield* api(path)
          if (answer !== undefined && answer.status !== "success") assert.fail(`${path}: ${answer.error}`)
          const value = answer === undefined ? undefined : found(answer.data)
          if (value !== undefined) return value
          yield* Effect.sleep(100)
        }
      })
    return { until, api }
  })

/** What the paths that are asked here answer, each with one of these. */
interface Data {
  readonly activeTargets: ReadonlyArray<{ readonly health: string; readonly lastError: string }>
  readonly result: ReadonlyArray<{
    readonly metric: Readonly<Record<string, string>>
    readonly value: readonly [time: number, value: string]
  }>
  readonly groups: ReadonlyArray<{
    readonly rules: ReadonlyArray<{ readonly name: string; readonly health: string }>
  }>
}

const query = (expr: string) => `query?query=${encodeURIComponent(expr)}`

describe("the dashboard and the alert rules", () => {
  it.live("ask for metrics that /metrics has, and leave no group of them out", () =>
    Effect.gen(function* () {
      const { text } = yield* (yield* busy).get("/metrics")
      const families = familiesOf(text).map(({ name }) => name)
      const samples = new Set(samplesOf(text).map(({ name }) => name))
      const asked = [
        ...panelQueries.flatMap(({ expr }) => namesIn(expr)),
        ...dashboard.templating.list
          .flatMap(({ definition = "" }) => [...definition.matchAll(/label_values\((\w+)/g)])
          .map(([, found = ""]) => found),
        ...[...alerts.matchAll(/concurrent_kafka_\w+/g)].map(([found]) => found)
      ]
      assert.isAbove(asked.length, 40)
      for (const one of asked) assert.isTrue(samples.has(one), one)
      const shown = new Set(asked.map((one) => one.replace(/_(bucket|sum|count)$/, "")))
      assert.deepStrictEqual(
        families.filter((family) => family.startsWith("concurrent_kafka_") && !shown.has(family)).toSorted(),
        [
          // what others say already, or a table of one's own is for
          ...["attempts_total", "last_commit_timestamp_seconds", "unexpected_transitions_total"],
          ...[
            "lag_offsets",
            "prefix_lag_offsets",
            "uncommitted_offsets",
            "gaps",
            "offset_map_bytes",
            "held_records"
          ].map((measure) => `partition_${measure}`),
          ...["uncommitted_offsets", "gaps", "offset_map_bytes", "held_records"].map((measure) => `topic_${measure}`),
          ...["prefix_lag_offsets", "gaps", "held_records"].map((measure) => `topic_worst_${measure}`),
          ...[
            "lag_offsets",
            "prefix_lag_offsets",
            "uncommitted_offsets",
            "gaps",
            "offset_map_bytes",
            "held_records"
          ].map((measure) => `topic_worst_${measure}_partition`)
        ]
          .map((family) => `concurrent_kafka_${family}`)
          .toSorted()
      )
    })
  )
})

describe.skipIf(missing.length > 0)("Prometheus", () => {
  it.live("finds nothing to lint in /metrics: every metric has a help, a unit and a name by the conventions", () =>
    Effect.gen(function* () {
      const { text } = yield* (yield* busy).get("/metrics")
      assert.strictEqual(promtool(["check", "metrics"], text), "")
    })
  )

  it("takes the alert rules, which fire when they should and only then", () => {
    promtool(["check", "rules", join(folder, "alerts.yml")])
    promtool(["test", "rules", join(import.meta.dirname, "alerts.test.yml")])
  })

  it.live("scrapes /metrics, answers every query of the dashboard, and evaluates the alert rules", () =>
    Effect.gen(function* () {
      const http = yield* busy
      const { api, until } = yield* prometheus(http)
      const target = yield* until("targets", (data) => data.activeTargets.find(({ health }) => health !== "unknown"))
      assert.deepInclude(target, { health: "up", lastError: "" })
      // the name comes back as it is, quotes and all
      const handled = yield* until(
        query('concurrent_kafka_records_total{outcome="handled"}'),
        ({ result }) => result[0]
      )
      assert.deepInclude(handled.metric, { consumer: name, group: "g" })
      assert.strictEqual(handled.value[1], "4")
      // rates need two scrapes
      yield* until(query("count_over_time(up[1m]) >= 3"), ({ result }) => result[0])
      const p99 = yield* until(
        query("histogram_quantile(0.99, messaging_process_duration_seconds_bucket)"),
        ({ result }) => result[0]
      )
      assert.isAbove(Number(p99.value[1]), 0)
      const empty: Array<string> = []
      for (const { expr, title } of panelQueries) {
        const answer = yield* api(query(filledIn(expr)))
        assert.strictEqual(answer?.status, "success", `${title}: ${expr}: ${answer?.error}`)
        if (answer!.data.result.length === 0) empty.push(title)
      }
      // nothing of it is wrong with this consumer
      assert.deepStrictEqual(empty, ["Not live, not ready", "Not live, not ready"])
      const rules = yield* until("rules", ({ groups }) =>
        groups.flatMap(({ rules }) => rules).every(({ health }) => health !== "unknown")
          ? groups.flatMap(({ rules }) => rules)
          : undefined
      )
      assert.deepStrictEqual(
        rules.map(({ health, name }) => [name, health]),
        [
          ["KafkaConsumerDown", "ok"],
          ["KafkaConsumerStalled", "ok"]
        ]
      )
    })
  )
})
