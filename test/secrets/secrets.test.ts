/**
 * Nothing of key, value, headers and credentials is in anything that this library says, unless `revealRecords` is on: a process says all
 * that it can say at the level of traces, and all of it is looked through.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import { beforeAll } from "vitest"
import { found, type Marker, markers } from "./markers.ts"

interface Seen {
  readonly place: string
  readonly text: string
}

const run = (mode: "hidden" | "revealed"): Promise<ReadonlyArray<Seen>> =>
  new Promise((resolve, reject) => {
    const folder = mkdtempSync(join(tmpdir(), "secrets-"))
    const file = join(folder, "seen.json")
    execFile(
      process.execPath,
      ["--no-warnings", join(import.meta.dirname, "program.ts"), mode, file],
      { timeout: 55_000, maxBuffer: 256 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error !== null) reject(new Error(`${stderr.slice(-4_000)}\n${stdout.slice(-1_000)}`, { cause: error }))
        else {
          const seen = JSON.parse(readFileSync(file, "utf8")) as ReadonlyArray<Seen>
          resolve([...seen, { place: "stdout", text: stdout }, { place: "stderr", text: stderr }])
        }
        rmSync(folder, { recursive: true, force: true })
      }
    )
  })

/** Markers by the place where they were seen, with a look at the first. */
const leaks = (seen: ReadonlyArray<Seen>): ReadonlyArray<string> => [
  ...new Set(
    seen.flatMap(({ place, text }) =>
      text.split("\n").flatMap((line) => found(line).map((marker) => `${place}: ${marker}`))
    )
  )
]

const examples = (seen: ReadonlyArray<Seen>): string =>
  seen
    .flatMap(({ place, text }) => text.split("\n").map((line) => ({ place, line })))
    .filter(({ line }) => found(line).length > 0)
    .slice(0, 20)
    .map(({ line, place }) => `${place}: ${line.slice(0, 300)}`)
    .join("\n")

const textOf = (seen: ReadonlyArray<Seen>, wanted: string): string =>
  seen
    .filter(({ place }) => place === wanted)
    .map(({ text }) => text)
    .join("\n")

/** what has to be there, or nobody has looked at anything */
const said: Readonly<Record<string, ReadonlyArray<string>>> = {
  logs: [
    "skipped a record whose handling failed: Quoting",
    "skipped a record whose handling failed: JobFailed",
    "skipped a record whose handling failed: Unshippable",
    "skipped a record whose handling failed: WorkerCrashed",
    "a thread of quoting.worker.ts ended by itself: exception",
    "the consumer stopping has ended",
    "the consumer crashing has ended",
    "kafkajs",
    "a record"
  ],
  stdout: [
    "skipped a record whose handling failed",
    '"level":"ERROR"',
    "level=DEBUG",
    "a handler ignores its interruption",
    "the live page: pause for",
    "the live page: refused to do something (401)",
    "  group orders, generation 1, for "
  ],
  errors: ["ConsumerError", "stopped by the failure of stopping/0", "Quoting", "KafkaClientError", "InvalidOptions"],
  spans: [
    "process orders",
    "send dead",
    "commit orders",
    "looks",
    "/kafka/actions",
    "dead_letter",
    "Quoting",
    "DecodeError",
    "HandlerTimeout"
  ],
  metrics: ["concurrent_kafka_records_total", "messaging.process.duration", "dead_lettered"],
  health: ["stuck", '"failed"'],
  snapshots: ["hotLanes", "rebalances"],
  page: ["event:", "orders", '{"ok":true}', "this is not the token"],
  terminal: ["orders", "typed", "\u001b["],
  tools: ["committed", "sent"]
}

describe("what is found", () => {
  it.each(Object.entries(markers) as ReadonlyArray<[Marker, string]>)("%s, however it is printed", (name, marker) => {
    const bytes = Buffer.from(`abc${marker}xyz`)
    const own = new Uint8Array(Buffer.from(marker))
    for (const text of [
      `before ${marker} after`,
      marker.slice(0, 12),
      JSON.stringify({ [marker]: 1 }),
      encodeURIComponent(marker),
      bytes.toString("hex"),
      bytes.toString("base64"),
      bytes.subarray(1).toString("base64"),
      bytes.subarray(2).toString("base64"),
      inspect(bytes),
      inspect(own).replaceAll("\n", ""),
      JSON.stringify(own),
      JSON.stringify([...own]),
      JSON.stringify(bytes)
    ]) {
      assert.deepStrictEqual(found(text), [name], text)
    }
    assert.deepStrictEqual(found("orders/0 at 17"), [])
  })
})

describe("all that is said", () => {
  // side by side: they wait more than they work
  let runs: Readonly<Record<"hidden" | "revealed", Promise<ReadonlyArray<Seen>>>>
  beforeAll(() => {
    runs = { hidden: run("hidden"), revealed: run("revealed") }
    // whoever asks for it is told; until then nobody need be
    void runs.revealed.catch(() => undefined)
  })

  it("has nothing of a record or a credential", async () => {
    const seen = await runs.hidden
    for (const [place, texts] of Object.entries(said)) {
      const text = textOf(seen, place)
      for (const one of texts) assert.isTrue(text.includes(one), `${place} says ${one}`)
    }
    assert.deepStrictEqual(leaks(seen), [], examples(seen))
  })

  it("has, with revealRecords, keys in hot lanes and spans, and errors in spans as they are; and nothing anywhere else", async () => {
    const seen = await runs.revealed
    assert.sameMembers(
      [...leaks(seen)],
      ["snapshots: key", "page: key", "spans: key", "spans: value", "spans: headerName", "spans: header"]
    )
  })
})
