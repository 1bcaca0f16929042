/**
 * The committer against a broker that keeps a list: what is asked for, cut, refused, halved and sent again comes to the newest offset
 * and map of each partition, each by its own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { BatchCommitter, type CommitSource } from "../src/BatchCommitter.ts"
import { type CommitEntry, type CommitOutcome, ConsumerSession, type EpochPartition } from "../src/ConsumerSession.ts"
import { cut } from "../src/internal/commitLoop.ts"
import { between, holds, same } from "./model.ts"
import { at, played } from "./script.ts"

const kib = 1024
const most = 256 * kib

/** As the protocol writes it: a topic with its name and the number of its partitions, and for each of them four fixed fields and a text. */
const bytesOf = (entries: ReadonlyArray<CommitEntry>): number => {
  const topics = new Set(entries.map(({ topic }) => topic))
  return (
    [...topics].reduce((bytes, topic) => bytes + 2 + topic.length + 4, 0) +
    entries.reduce((bytes, { metadata }) => bytes + 4 + 8 + 4 + 2 + metadata.length, 0)
  )
}

describe("cutting a cycle into requests", () => {
  const Entries = Schema.Array(
    Schema.Tuple([between(0, 5), Schema.Union([between(0, 20), between(0, 4_096), between(100_000, 400_000)])])
  )
  it.prop(
    "each entry is in one request, in its order; each request is within 256 KiB, or a single entry",
    [Entries, between(1, 40)],
    ([made, times]) => {
      const entries = Array.from({ length: times }, () => made)
        .flat()
        .map(([topic, length], partition) => ({
          topic: `${"t".repeat(topic * 40)}${topic}`,
          partition,
          epoch: 1,
          offset: BigInt(partition),
          metadata: "m".repeat(length)
        }))
      const requests = cut(entries)
      same(requests.flat().length, entries.length, "entries")
      requests.flat().forEach((entry, i) => holds(entry === entries[i], `entry ${i}`))
      for (const request of requests) {
        holds(request.length > 0, "an empty request")
        holds(
          request.length === 1 || bytesOf(request) <= most,
          `${bytesOf(request)} bytes in ${request.length} entries`
        )
      }
      if (bytesOf(entries) < most - 2 * kib && entries.length > 0) same(requests.length, 1, "requests for what fits")
    },
    { arbitrary: { runs: 200, size: 60 } }
  )
})

const partitions = 320

interface Kept {
  offset: number
  /** another text for each number */
  map: number
  characters: number
  /** what the broker takes of it, as far as it has said */
  limit: number
  /** as the broker has it, by its answers */
  committed: number
  stored: string
  /** the map that `stored` says, maybe cut: what is stored stays good when a later one may not be so long */
  says: number
  over: boolean
}

/** What a consumer knows, in the plainest form. */
class Source implements CommitSource {
  readonly kept: ReadonlyArray<Kept> = Array.from({ length: partitions }, () => ({
    offset: 0,
    map: 0,
    characters: 0,
    limit: 1_000_000,
    committed: 0,
    stored: "",
    says: 0,
    over: false
  }))
  /** taken and not sent, and sent and not settled */
  readonly taken = new Map<number, CommitEntry>()
  readonly sent = new Map<number, CommitEntry>()
  /** the map of what is under way */
  private readonly saying = new Map<number, number>()
  shortest = 1_000_000

  metadata(kept: Kept): string {
    const length = Math.min(kept.characters, kept.limit, this.shortest)
    return length === 0 ? "" : `${kept.map}`.padEnd(length, "m").slice(0, length)
  }

  take: CommitSource["take"] = (asked, repeat, mapAlone) => {
    const all = asked?.map(({ partition }) => partition) ?? this.kept.map((_, partition) => partition)
    return [...new Set(all)].flatMap((partition) => {
      const kept = this.kept[partition]!
      if (kept.over) return []
      const metadata = this.metadata(kept)
      if (kept.offset === kept.committed && !repeat) {
        if (metadata === kept.stored) kept.says = kept.map
        if (kept.says === kept.map || !mapAlone(at(partition, 1))) return []
      }
      holds(!this.taken.has(partition) && !this.sent.has(partition), `${partition} is taken while it is under way`)
      const entry = { ...at(partition, 1), offset: BigInt(kept.offset), metadata }
      this.taken.set(partition, entry)
      this.saying.set(partition, kept.map)
      return [entry]
    })
  }

  settled: CommitSource["settled"] = (outcomes) => {
    for (const outcome of outcomes) {
      const { partition } = outcome
      const kept = this.kept[partition]!
      const entry = this.sent.get(partition)
      if (entry === undefined) return assert.fail(`${partition} is settled, and was not sent`)
      this.sent.delete(partition)
      if (outcome.outcome === "committed") {
        kept.committed = Number(entry.offset)
        kept.stored = entry.metadata
        kept.says = this.saying.get(partition)!
      } else if (outcome.outcome === "rejected") {
        if (outcome.code === "OFFSET_METADATA_TOO_LARGE") this.shortest = entry.metadata.length >> 1
        else if (outcome.code === "REQUEST_TOO_LARGE") {
          if (outcomes.length === 1 && entry.metadata !== "") kept.limit = 0
        } else kept.over = true
      }
    }
  }
}

const How = Schema.Literals(["fine", "retriable", "deferred", "rejected"])
const codes = {
  retriable: "NOT_COORDINATOR",
  deferred: "REBALANCE_IN_PROGRESS",
  rejected: "TOPIC_AUTHORIZATION_FAILED"
}

/** Takes what it is given, entry by entry, within its limits. */
class Broker {
  requestBytes = 1_000_000
  metadataCharacters = 1_000_000
  whole: "REQUEST_TOO_LARGE" | "UNKNOWN_SERVER_ERROR" = "REQUEST_TOO_LARGE"
  readonly how = new Map<number, Exclude<typeof How.Type, "fine">>()
  readonly has = new Map<number, CommitEntry>()

  answer(entries: ReadonlyArray<CommitEntry>): ReadonlyArray<CommitOutcome> {
    const bytes = bytesOf(entries)
    return entries.map((entry) => {
      const { epoch, partition, topic } = entry
      const place = { topic, partition, epoch }
      if (bytes > this.requestBytes) {
        return this.whole === "REQUEST_TOO_LARGE"
          ? { ...place, outcome: "rejected", code: this.whole }
          : { ...place, outcome: "retriable", code: this.whole }
      }
      if (entry.metadata.length > this.metadataCharacters)
        return { ...place, outcome: "rejected", code: "OFFSET_METADATA_TOO_LARGE" }
      const how = this.how.get(partition)
      if (how !== undefined) return { ...place, outcome: how, code: codes[how] } as CommitOutcome
      holds(entry.offset >= (this.has.get(partition)?.offset ?? 0n), `I2: ${partition} goes back to ${entry.offset}`)
      this.has.set(partition, entry)
      return { ...place, outcome: "committed" }
    })
  }
}

const Some = { first: between(0, partitions - 1), count: Schema.Union([between(1, 4), between(1, partitions)]) }
const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("advance"), ...Some, by: between(1, 30) }),
  /** behind a gap: the offset stays */
  Schema.Struct({ do: Schema.Literal("maps"), ...Some, characters: between(1, 4_096) }),
  Schema.Struct({ do: Schema.Literal("flush"), ...Some, all: Schema.Boolean }),
  Schema.Struct({ do: Schema.Literal("pass"), millis: Schema.Union([between(1, 60), between(1, 3_000)]) }),
  Schema.Struct({
    do: Schema.Literal("broker"),
    request: Schema.Literals([120, 5_000, 70_000, 1_000_000]),
    metadata: Schema.Literals([0, 50, 1_500, 1_000_000]),
    unknown: Schema.Boolean
  }),
  Schema.Struct({ do: Schema.Literal("fails"), ...Some, how: How })
])

/** one request, and whether a flush asked for it */
interface Request {
  readonly at: number
  readonly flush: boolean
  readonly mapBytes: number
}

/** The committer between the two. */
const desk = (minCommitInterval: number) =>
  Effect.gen(function* () {
    const session = yield* played()
    const source = new Source()
    const broker = new Broker()
    const requests: Array<Request> = []
    let flushing = false
    session.always = (entries) => {
      holds(entries.length === 1 || bytesOf(entries) <= most, `${bytesOf(entries)} bytes`)
      for (const entry of entries) {
        holds(source.taken.get(entry.partition) === entry, `${entry.partition} is sent, and was not taken`)
        source.taken.delete(entry.partition)
        source.sent.set(entry.partition, entry)
      }
      const mapBytes = entries.reduce((bytes, { metadata }) => bytes + metadata.length, 0)
      requests.push({ at: session.now(), flush: flushing, mapBytes })
      return broker.answer(entries)
    }
    const built = yield* Layer.build(
      BatchCommitter.layer({ minCommitInterval }).pipe(Layer.provide(Layer.succeed(ConsumerSession, session.session)))
    )
    const committer = Context.get(built, BatchCommitter)
    yield* committer.attach(source)
    const flushed = (some: ReadonlyArray<EpochPartition> | undefined) =>
      Effect.suspend(() => {
        flushing = true
        return Effect.map(committer.flush(some), () => {
          flushing = false
        })
      })
    return { broker, committer, flushed, requests, source }
  })

/** What flushes send is not in it. From the beginning of one cycle to that of another, to a millisecond. */
const keepsToItsBudget = (requests: ReadonlyArray<Request>): void => {
  const cycles = new Map<number, number>()
  for (const { at, flush, mapBytes } of requests) if (!flush) cycles.set(at, (cycles.get(at) ?? 0) + mapBytes)
  const times = [...cycles]
  times.forEach(([from], i) => {
    let bytes = 0
    times.slice(i).forEach(([at, more]) => {
      holds(bytes <= (at - from + 1) * 1_048.576, `${bytes} bytes of maps within ${at - from} ms`)
      bytes += more
    })
  })
}

/** Lets the committer do what it can at this moment. */
const some = Effect.gen(function* () {
  for (let i = 0; i < 12; i++) yield* Effect.yieldNow
})

it.effect.prop(
  "whatever is refused, for whatever reason: each taken entry is sent once, within 256 KiB, the others are stored, and maps keep to 1 MiB a second",
  [Schema.Array(Step), Schema.Literals([0, 50])],
  ([steps, minCommitInterval]) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { broker, committer, flushed, requests, source } = yield* desk(minCommitInterval)
        const range = ({ count, first }: { readonly first: number; readonly count: number }) =>
          Array.from({ length: Math.min(count, partitions - first) }, (_, i) => first + i)

        const flush = (some: ReadonlyArray<EpochPartition> | undefined) =>
          Effect.gen(function* () {
            const before = requests.length
            const asked = some?.map(({ partition }) => partition) ?? source.kept.map((_, partition) => partition)
            // by the definition: what is not at fault by itself
            const could = asked.filter((partition) => !broker.how.has(partition) && !source.kept[partition]!.over)
            yield* flushed(some)
            same(source.taken.size, 0, "taken, and not sent")
            same(source.sent.size, 0, "sent, and not settled")
            // an unknown error of a small request is not about its size, and waits for its turn
            if (broker.whole === "UNKNOWN_SERVER_ERROR" && broker.requestBytes < 64 * kib) return
            for (const partition of could) {
              const { offset } = source.kept[partition]!
              if (offset > 0) same(Number(broker.has.get(partition)?.offset), offset, `flushed, ${partition}`)
            }
            // halves, and for each entry as many tries as its map can become shorter
            holds(requests.length - before <= 2 * partitions * 14, `${requests.length - before} requests`)
          })

        for (const step of steps) {
          switch (step.do) {
            case "advance":
              for (const partition of range(step)) {
                source.kept[partition]!.offset += step.by
                committer.advancedUnsafe(step.by, 0)
              }
              break
            case "maps":
              for (const partition of range(step)) {
                source.kept[partition]!.map++
                source.kept[partition]!.characters = step.characters
                committer.advancedUnsafe(0, 1)
              }
              break
            case "flush":
              yield* flush(step.all ? undefined : range(step).map((partition) => at(partition, 1)))
              break
            case "pass":
              yield* TestClock.adjust(step.millis)
              break
            case "broker":
              broker.requestBytes = step.request
              broker.metadataCharacters = step.metadata
              broker.whole = step.unknown ? "UNKNOWN_SERVER_ERROR" : "REQUEST_TOO_LARGE"
              break
            case "fails":
              for (const partition of range(step)) {
                if (step.how === "fine") broker.how.delete(partition)
                else broker.how.set(partition, step.how)
              }
          }
          yield* some
        }
        // all is well again: what is left comes by itself
        broker.requestBytes = broker.metadataCharacters = 1_000_000
        broker.how.clear()
        for (let i = 0; i < 20; i++) {
          yield* TestClock.adjust(1_000)
          yield* some
        }
        source.kept.forEach((kept, partition) => {
          if (kept.over) return
          const entry = broker.has.get(partition)
          same(Number(entry?.offset ?? 0n), kept.offset, `offset of ${partition}`)
          same(entry?.metadata ?? "", kept.stored, `map of ${partition}, as it was answered`)
          holds(kept.says === kept.map || kept.stored === source.metadata(kept), `map of ${partition}`)
        })
        keepsToItsBudget(requests)
      })
    ),
  { arbitrary: { runs: 60, size: 30 } }
)

describe("maps go out at 1 MiB a second", () => {
  /** each of so many partitions goes on, and has a map */
  const goesOn = ({ committer, source }: Effect.Success<ReturnType<typeof desk>>, count: number): void => {
    for (const kept of source.kept.slice(0, count)) {
      kept.offset++
      kept.map++
      kept.characters = 4_000
      committer.advancedUnsafe(1, 0)
    }
  }
  const mapBytes = (requests: ReadonlyArray<Request>): number =>
    requests.reduce((bytes, one) => bytes + one.mapBytes, 0)

  it.effect("also where each commit carries less than 64 KiB of them", () =>
    Effect.gen(function* () {
      const d = yield* desk(50)
      for (let millis = 0; millis < 3_000; millis += 10) {
        goesOn(d, 16)
        yield* TestClock.adjust(10)
        yield* some
      }
      keepsToItsBudget(d.requests)
      assert.isAbove(mapBytes(d.requests), 2.8 * 1_024 * 1_024, "and not much less")
    })
  )

  it.effect("also where a flush comes in between: it does not wait, and does not hasten the next commit", () =>
    Effect.gen(function* () {
      const d = yield* desk(50)
      goesOn(d, 250)
      yield* some
      assert.strictEqual(mapBytes(d.requests), 1_000_000)
      yield* TestClock.adjust(100)
      yield* d.flushed([at(0, 1)])
      goesOn(d, 250)
      yield* TestClock.adjust(800)
      yield* some
      assert.strictEqual(mapBytes(d.requests), 1_000_000)
      yield* TestClock.adjust(100)
      yield* some
      assert.strictEqual(mapBytes(d.requests), 2_000_000)
      keepsToItsBudget(d.requests)
    })
  )
})
