/** Snapshots, one after another. */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Snapshot } from "../Snapshot.ts"

export const snapshotsOf =
  (snapshot: Effect.Effect<Snapshot>) =>
  (every: Duration.Input = "250 millis"): Stream.Stream<Snapshot> =>
    Stream.fromEffectSchedule(snapshot, Schedule.fixed(every))
