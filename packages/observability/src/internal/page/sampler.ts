/**
 * Looks at all consumers once in a while, for all pages together, while there is at least one: what one look costs does not depend on how
 * many records there are, and who is slow to read gets the newest look, not each.
 */
import type { Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import type * as Duration from "effect/Duration"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RcRef from "effect/RcRef"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { LoopMonitor } from "../loopMonitor.ts"
import type { Point } from "./frame.ts"
import { frameOf, pointOf } from "./frames.ts"

/** of each consumer; ten minutes of seconds */
const pointsKept = 600
/** texts of one look */
const writtenKept = 32

/** One look. */
export class Look {
  readonly seq: number
  readonly at: number
  private readonly snapshots: ReadonlyArray<Snapshot>
  private readonly loop: LoopMonitor["delays"]
  /** pages that look at the same are written for once */
  private readonly written = new Map<string, string>()

  constructor(seq: number, at: number, snapshots: ReadonlyArray<Snapshot>, loop: LoopMonitor["delays"]) {
    this.seq = seq
    this.at = at
    this.snapshots = snapshots
    this.loop = loop
  }

  frame(name: string, find: string): string {
    const key = JSON.stringify([name, find])
    const known = this.written.get(key)
    if (known !== undefined) return known
    const text = JSON.stringify(frameOf(this.snapshots, this.loop, name, find))
    // what is asked for is anybody's to choose
    if (this.written.size === writtenKept) this.written.clear()
    this.written.set(key, text)
    return text
  }

  /** Of the consumer that `frame` shows. */
  nameOf(name: string): string | undefined {
    return (this.snapshots.find((snapshot) => snapshot.name === name) ?? this.snapshots[0])?.name
  }
}

export class Sampler {
  private latest: Look | undefined
  private next = Deferred.makeUnsafe<Look>()
  private readonly points = new Map<string, Array<Point>>()
  private seq = 0
  private readonly registry: Registry
  private readonly monitor: LoopMonitor | undefined

  constructor(registry: Registry, monitor: LoopMonitor | undefined) {
    this.registry = registry
    this.monitor = monitor
  }

  private readonly take = Effect.gen({ self: this }, function* () {
    const at = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    const snapshots = yield* Effect.forEach(yield* this.registry.consumers, ({ snapshot }) => snapshot)
    const look = new Look(++this.seq, at, snapshots, this.monitor?.delays)
    for (const name of this.points.keys()) {
      if (!snapshots.some((snapshot) => snapshot.name === name)) this.points.delete(name)
    }
    for (const snapshot of snapshots) {
      const points = this.points.get(snapshot.name) ?? []
      points.push(pointOf(snapshot, look.seq))
      if (points.length > pointsKept) points.shift()
      this.points.set(snapshot.name, points)
    }
    this.latest = look
    const waiting = this.next
    this.next = Deferred.makeUnsafe()
    Deferred.doneUnsafe(waiting, Exit.succeed(look))
  })

  /** What the charts of a consumer show, from after a look on. */
  pointsAfter(name: string, seq: number): ReadonlyArray<Point> {
    return (this.points.get(name) ?? []).filter((point) => point.seq > seq)
  }

  /** The newest look after this one, as soon as there is one. */
  after(seq: number): Effect.Effect<Look> {
    return Effect.suspend(() =>
      this.latest !== undefined && this.latest.seq > seq ? Effect.succeed(this.latest) : Deferred.await(this.next)
    )
  }

  /** Runs as long as somebody's scope is open. */
  looking(every: Duration.Input): Effect.Effect<RcRef.RcRef<this>, never, Scope.Scope> {
    return RcRef.make({
      acquire: Effect.gen({ self: this }, function* () {
        // the last one may be of an hour ago
        this.latest = undefined
        const look = Effect.catchDefect(this.take, (defect) => Effect.logError("the live page could not look", defect))
        yield* Effect.forkScoped(Effect.repeat(look, Schedule.spaced(every)))
        return this
      })
    })
  }
}
