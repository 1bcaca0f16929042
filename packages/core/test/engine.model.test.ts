import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type EpochPartition, type CommitEntry, type CommitOutcome } from "../src/ConsumerSession.ts"
import { FailurePolicy } from "../src/FailurePolicy.ts"
import { type Attempt, Boom, Desk, pass, turns, whileTimePasses } from "./harness.ts"
import { at, recordAt, scripted } from "./script.ts"

/**
 * A client that does everything that its contract allows, in random order, against one consumer. What must hold at each step:
 * no event without a row, no commit that passes a record which is not done in its epoch (I1), none that goes back in an epoch (I2),
 * no second fiber in a lane (I4), no more fibers than permits (I5). At the end, when all faults have stopped: everything is done and
 * committed, nothing is held, every revoke was answered, and the end itself is in its bounds.
 */
interface Held extends EpochPartition {
  /** where the client reads next; undefined before `begin` */
  position: bigint | undefined
  revoking: "no" | "eager" | "exact"
}

const partitions = 4
const logEnd = 1_000_000n

class Chance {
  private state: number
  constructor(seed: number) {
    this.state = (seed * 2654435761) % 2147483647 || 1
    for (let i = 0; i < 5; i++) this.below(2)
  }
  below(n: number): number {
    this.state = (this.state * 48271) % 2147483647
    return this.state % n
  }
  of<A>(list: ReadonlyArray<A>): A {
    return list[this.below(list.length)]!
  }
}

const play = (seed: number, steps: number) =>
  Effect.gen(function* () {
    const chance = new Chance(seed)
    const trace: Array<string> = []
    const stubbornOnes = chance.below(2) === 0
    const ordering = chance.of(["unordered", "partition"] as const)
    let running = 0
    let closing = false
    /** epochs that end by the answer to a commit */
    const told = new Set<number>()
    const held = new Map<number, Held>()
    const lanes = new Map<string, number>()
    const problems: Array<string> = []
    let limit = 1 + chance.below(6)
    const desk = new Desk({
      around: (attempt, wait) => {
        const lane = String(attempt.record.partition)
        const client = () => {
          const one = held.get(attempt.record.partition)
          return one?.epoch === attempt.record.epoch ? one : undefined
        }
        if ((client()?.revoking ?? "no") !== "no")
          problems.push(`${attempt.place} starts while its partition is revoked`)
        running++
        if (running > Math.max(limit, highest)) problems.push(`${running} run, ${limit} permits`)
        lanes.set(lane, (lanes.get(lane) ?? 0) + 1)
        if (ordering === "partition" && lanes.get(lane)! > 1) problems.push(`two at once in lane ${lane}`)
        const body = stubbornOnes && attempt.record.offset % 3n === 1n ? Effect.uninterruptible(wait) : wait
        return Effect.onExit(body, (exit) =>
          Effect.sync(() => {
            running--
            lanes.set(lane, lanes.get(lane)! - 1)
            const cut = Exit.isFailure(exit) && exit.cause.reasons.some((reason) => reason._tag === "Interrupt")
            if (cut && !closing && !told.has(attempt.record.epoch) && client()?.revoking === "eager")
              problems.push(`${attempt.place} is interrupted by an eager revoke`)
          })
        )
      }
    })
    let highest = 0
    const s = yield* scripted({
      desk,
      ordering,
      concurrency: limit,
      batchSize: 1 + chance.below(10),
      batchInterval: 1_000,
      minCommitInterval: chance.of([0, 50]),
      maxHeldRecords: chance.of([8, 20_000]),
      maxUncommitted: chance.of([3, 10_000]),
      shutdown: chance.of(["interrupt", "drain"]),
      policy: FailurePolicy.skip
    })
    const { session } = s
    const committed = new Map<number, bigint>()
    /** highest offset committed in an epoch */
    const inEpoch = new Map<number, bigint>()
    const delivered = new Map<number, Array<bigint>>()
    const ended = new Set<number>()
    const revokes: Array<{
      readonly answered: () => boolean
      readonly partitions: ReadonlyArray<EpochPartition>
      readonly exact: boolean
      readonly until: number
    }> = []
    const owed: Array<() => boolean> = []
    let epochs = 0
    let faults = true
    /** the broker does not know the member any more; the client has not noticed */
    let evicted = false

    const done = (epoch: number, offset: bigint): boolean =>
      desk.attempts.some(
        (a: Attempt) =>
          a.record.epoch === epoch &&
          a.record.offset === offset &&
          a.exit !== undefined &&
          // a failure of the handler is skipped by the policy
          (Exit.isSuccess(a.exit) || !a.interrupted)
      )

    const answer = (entries: ReadonlyArray<CommitEntry>): ReadonlyArray<CommitOutcome> => {
      const kind = faults ? chance.below(16) : 15
      if (kind === 4) evicted = true
      return entries.map((entry): CommitOutcome => {
        const one = { topic: entry.topic, partition: entry.partition, epoch: entry.epoch }
        const now = held.get(entry.partition)
        if (ended.has(entry.epoch)) problems.push(`an entry of the ended epoch ${entry.epoch}`)
        if (now?.epoch !== entry.epoch) return { ...one, outcome: "stale", code: "EPOCH" }
        const last = inEpoch.get(entry.epoch)
        if (last !== undefined && entry.offset < last)
          problems.push(`${entry.partition}#${entry.epoch} goes back from ${last} to ${entry.offset}`)
        inEpoch.set(entry.epoch, entry.offset)
        for (const offset of delivered.get(entry.epoch) ?? []) {
          if (offset < entry.offset && !done(entry.epoch, offset)) {
            problems.push(`${entry.partition}#${entry.epoch} passes ${offset} with ${entry.offset}`)
          }
        }
        if (now.revoking === "eager" && kind < 3) return { ...one, outcome: "deferred", code: "REBALANCE_IN_PROGRESS" }
        if (kind === 0) return { ...one, outcome: "retriable", code: "NO_ANSWER" }
        if (kind === 1) return { ...one, outcome: "retriable", code: "NOT_COORDINATOR" }
        if (kind === 2) return { ...one, outcome: "deferred", code: "STALE_MEMBER_EPOCH" }
        if (kind === 4) {
          told.add(entry.epoch)
          return { ...one, outcome: "stale", code: "UNKNOWN_MEMBER_ID" }
        }
        if (kind === 3) return { ...one, outcome: "rejected", code: "REQUEST_TOO_LARGE" }
        committed.set(entry.partition, entry.offset)
        return { ...one, outcome: "committed" }
      })
    }
    // decided when it is sent; the answer may be late
    session.always = (entries) => {
      const decided = answer(entries)
      return chance.below(4) === 0 && faults ? Effect.as(Effect.sleep(chance.below(300)), decided) : decided
    }
    session.onBegin = (start) => {
      const one = held.get(start.partition)
      if (one?.epoch === start.epoch) one.position = start.offset
    }
    session.onReopen = (before, next) => {
      const one = held.get(before.partition)
      if (one?.epoch !== before.epoch) return undefined
      ended.add(before.epoch)
      held.set(before.partition, { ...next, position: undefined, revoking: one.revoking })
      return next
    }
    session.nextEpoch = 0
    session.epochs = () => ++epochs
    session.log = { start: 0n, end: 5n }

    const drop = (partition: number) => {
      const one = held.get(partition)
      if (one !== undefined) ended.add(one.epoch)
      held.delete(partition)
    }
    const give = (partition: number): Held => {
      drop(partition)
      const one: Held = { ...at(partition, ++epochs), position: undefined, revoking: "no" }
      held.set(partition, one)
      return one
    }
    const assigned = (fresh: ReadonlySet<number>) =>
      session.signal({
        _tag: "Assigned",
        all: [...held.values()].map((one) => ({
          ...at(one.partition, one.epoch),
          retained: !fresh.has(one.epoch),
          committed: committed.has(one.partition) ? { offset: committed.get(one.partition)!, metadata: "" } : undefined,
          topicCommitted: committed.size > 0
        }))
      })
    /** the group has a new generation: some stay, some go, some come */
    const generation = (keep: (one: Held) => boolean) =>
      Effect.suspend(() => {
        const fresh = new Set<number>()
        for (const one of [...held.values()]) {
          if (one.revoking === "exact" || !keep(one)) drop(one.partition)
          else one.revoking = "no"
        }
        for (let p = 0; p < partitions; p++) {
          if (!held.has(p) && chance.below(2) === 0) fresh.add(give(p).epoch)
        }
        trace.push(
          `assigned ${[...held.values()].map((h) => `${h.partition}#${h.epoch}${fresh.has(h.epoch) ? "" : "="}`).join(" ")}`
        )
        return assigned(fresh)
      })
    const now = () => session.now()
    /** what the client does when a revoke was answered, or its hold is over */
    const settleRevokes = Effect.gen(function* () {
      for (const revoke of [...revokes]) {
        if (!revoke.answered() && now() < revoke.until) continue
        revokes.splice(revokes.indexOf(revoke), 1)
        if (!revoke.exact) {
          yield* generation(() => chance.below(3) > 0)
          continue
        }
        const answered = revoke.answered()
        for (const p of revoke.partitions) if (held.get(p.partition)?.epoch === p.epoch) drop(p.partition)
        // who did not answer is told by an assignment without them
        if (!answered) yield* generation(() => true)
      }
    })

    const step = Effect.gen(function* () {
      if (evicted && chance.below(3) === 0) {
        evicted = false
        const all = [...held.values()].map((h) => at(h.partition, h.epoch))
        for (const h of all) drop(h.partition)
        trace.push("evicted")
        return yield* session.lost(...all)
      }
      const what = chance.below(24)
      const list = [...held.values()]
      const one = list.length === 0 ? undefined : chance.of(list)
      switch (what) {
        case 0:
          if (revokes.length === 0) yield* generation(() => chance.below(4) > 0)
          return
        case 1:
        case 2: {
          if (revokes.length > 0 || list.length === 0) return
          const exact = chance.below(2) === 0
          const going = exact ? list.filter((h) => h.revoking === "no" && chance.below(2) === 0) : list
          if (going.length === 0) return
          for (const h of going) h.revoking = exact ? "exact" : "eager"
          const hold = chance.of([0, 500, 4_000, 10_000])
          trace.push(`revoking ${going.map((h) => `${h.partition}#${h.epoch}`).join(" ")} exact ${exact} hold ${hold}`)
          const named = going.map((h) => at(h.partition, h.epoch))
          const { answered } = yield* session.revoking(named, { exact, hold })
          revokes.push({ answered, partitions: named, exact, until: now() + hold })
          owed.push(answered)
          return
        }
        case 3: {
          const going = list.filter(() => chance.below(2) === 0)
          trace.push(`lost ${going.map((h) => `${h.partition}#${h.epoch}`).join(" ")}`)
          for (const h of going) drop(h.partition)
          yield* session.lost(...going.map((h) => at(h.partition, h.epoch)))
          return
        }
        case 4:
          if (one?.position === undefined || one.revoking !== "no") return
          if (chance.below(2) === 0) {
            const start = one.position + BigInt(chance.below(5))
            trace.push(`below ${one.partition}#${one.epoch} ${one.position} to ${start}`)
            const { position } = one
            one.position = start
            yield* session.outOfRange(at(one.partition, one.epoch), Number(position), Number(start), Number(logEnd))
          } else {
            trace.push(`beyond ${one.partition}#${one.epoch}`)
            yield* session.outOfRange(at(one.partition, one.epoch), Number(one.position), 0, 5)
          }
          return
        case 5:
          if (one === undefined || one.position === undefined) return
          trace.push(`gone ${one.partition}#${one.epoch}`)
          drop(one.partition)
          yield* session.gone(at(one.partition, one.epoch))
          return
        case 6:
          if (one === undefined) return
          trace.push(`seek ${one.partition}`)
          yield* Effect.forkChild(Effect.ignore(s.consumer.seek(one, chance.of([0n, 7n, "start", "end"] as const))), {
            startImmediately: true
          })
          return yield* turns
        case 7: {
          const all = chance.below(2) === 0
          const call = chance.below(3) === 0 ? s.consumer.pause : s.consumer.resume
          yield* Effect.ignore(all || one === undefined ? call() : call([one]))
          return
        }
        case 8: {
          highest = Math.max(running, 0)
          limit = 1 + chance.below(6)
          yield* s.consumer.setConcurrency(limit)
          return
        }
        case 9:
          yield* Effect.forkChild(Effect.ignore(s.consumer.flush), { startImmediately: true })
          return yield* turns
        case 10: {
          if (chance.below(4) !== 0) return
          trace.push("run interrupted and called again")
          closing = true
          yield* whileTimePasses(s.interrupt, 60_000)
          closing = false
          for (const h of list) drop(h.partition)
          for (const h of [...held.keys()]) drop(h)
          revokes.length = 0
          yield* s.run
          return
        }
        case 11:
        case 12:
          yield* pass(chance.of([1, 10, 100, 1_000, 3_000]))
          return
        case 13:
        case 14:
        case 15:
        case 16: {
          if (one?.position === undefined || session.paused.has(one.partition)) return
          if (one.revoking !== "no" && chance.below(3) > 0) return
          const from = Number(one.position)
          const records = Array.from({ length: chance.below(6) }, (_, i) =>
            recordAt(one.partition, from + i + (i > 2 ? 1 : 0))
          )
          const end = (records.at(-1)?.offset ?? BigInt(from) - 1n) + 1n + BigInt(chance.below(2))
          one.position = end
          if (one.revoking !== "exact" && s.consumer !== undefined) {
            const all = delivered.get(one.epoch) ?? []
            delivered.set(one.epoch, [...all, ...records.map((r) => r.offset)])
          }
          yield* session.signal({ _tag: "Chunk", ...at(one.partition, one.epoch), records, nextOffset: end, end })
          return
        }
        default: {
          const open = desk.attempts.filter((a) => a.running)
          if (open.length === 0) return
          const attempt = chance.of(open)
          // one that ignores its interruption does so for long
          if (stubbornOnes && attempt.record.offset % 3n === 1n && chance.below(4) > 0) return
          attempt.end(chance.below(5) === 0 ? Exit.fail(new Boom()) : Exit.void)
          return yield* turns
        }
      }
    })

    yield* generation(() => true)
    for (let i = 0; i < steps; i++) {
      highest = Math.max(highest > limit ? running : 0, 0)
      yield* step
      yield* turns
      yield* settleRevokes
      const snapshot = yield* s.consumer.snapshot
      if (snapshot.held.records < 0 || snapshot.held.bytes < 0)
        problems.push(`held ${snapshot.held.records}, ${snapshot.held.bytes}`)
      if (problems.length > 0 || s.unexpected.length > 0 || s.fiber().pollUnsafe() !== undefined) {
        assert.fail(
          [
            ...problems,
            ...s.unexpected,
            String(s.fiber().pollUnsafe()?.toString() ?? ""),
            `seed ${seed} step ${i}`,
            ...trace.slice(-12)
          ].join("\n")
        )
      }
    }

    // all faults stop: everything must come to its end
    faults = false
    for (const attempt of desk.attempts) attempt.end(Exit.void)
    yield* s.consumer.resume()
    yield* pass(12_000)
    yield* settleRevokes
    yield* pass(12_000)
    assert.deepStrictEqual(
      owed.filter((answered) => !answered()),
      [],
      `seed ${seed}: every revoke is answered`
    )
    // what is held goes on as it is, or all begins anew
    const anew = chance.below(2) === 0
    const fresh = new Set<number>()
    for (let p = 0; p < partitions; p++) if (anew || held.get(p)?.revoking !== "no") fresh.add(give(p).epoch)
    yield* assigned(fresh)
    yield* s.consumer.resume()
    yield* pass(40_000)
    const ends = new Map<number, bigint>()
    for (const one of held.values()) {
      assert.isDefined(one.position, `seed ${seed}: ${one.partition} was begun`)
      const from = Number(one.position)
      delivered.set(one.epoch, [...(delivered.get(one.epoch) ?? []), ...[0, 1, 2].map((i) => BigInt(from + i))])
      yield* session.chunk(one.partition, one.epoch, from, from + 3)
      ends.set(one.partition, BigInt(from + 3))
    }
    for (let i = 0; i < 20; i++) yield* desk.finishAll()
    yield* pass(40_000)
    const why = () => `seed ${seed}: ${trace.slice(-12).join("; ")}`
    for (const [partition, end] of ends) assert.strictEqual(committed.get(partition), end, why())
    const snapshot = yield* s.consumer.snapshot
    assert.deepStrictEqual(
      [snapshot.held.records, snapshot.held.bytes, snapshot.permits.used, snapshot.permits.byZombies],
      [0, 0, 0, 0],
      why()
    )
    const end = yield* Effect.forkChild(s.close)
    yield* turns
    yield* Fiber.join(end)
    assert.deepStrictEqual(problems, [], why())
    assert.deepStrictEqual(s.unexpected, [], why())
    assert.strictEqual(session.leaves > 0, true)
  })

describe("a client that does everything that it may, in random order", () => {
  const first = Number(process.env["MODEL_SEED"] ?? 1)
  const count = Number(process.env["MODEL_SEEDS"] ?? 30)
  it.effect(
    `I1 to I5 hold in ${count} histories (MODEL_SEED and MODEL_SEEDS choose others)`,
    () =>
      Effect.gen(function* () {
        for (let seed = first; seed < first + count; seed++) yield* Effect.scoped(play(seed, 150))
      }),
    20_000 + count * 500
  )
})
