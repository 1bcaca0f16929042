/**
 * A folder whose data outlives the Kafka that runs in it: `node-1` and so on.
 *
 * While one runs, `running` holds what is only its own: properties, certificates and logs. Its supervisor removes that when the last
 * node is gone, so a `running` means: there is one, or it is ending, or the machine was switched off meanwhile.
 */
import { Effect, Schedule } from "effect"
import type { Duration } from "effect"
import { mkdir, readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { KafkaUnavailable } from "./java.ts"
import { accepts } from "./ports.ts"
import { plainAddress } from "./settings.ts"

/** Longer than a supervisor takes to end its nodes and to remove the folder. */
const goneWithin: Duration.Input = "10 seconds"

export const propertiesFile = (running: string, id: number) => join(running, `node-${id}.properties`)

/** Waits until no other Kafka runs in it; gives the folder for what ends with this one. */
export const claim = Effect.fnUntraced(function* (folder: string) {
  const running = join(folder, "running")
  yield* Effect.promise(() => mkdir(folder, { recursive: true }))
  // of two that start at the same moment, one makes it
  const make = Effect.promise(() =>
    mkdir(running).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error
        return false
      }
    )
  )
  const made = yield* Effect.repeat(make, { schedule: Schedule.spaced("100 millis"), until: (done) => done }).pipe(
    Effect.timeoutOrElse({ duration: goneWithin, orElse: () => Effect.succeed(false) })
  )
  if (made) return running
  const text = yield* Effect.promise(() => readFile(propertiesFile(running, 1), "utf8").catch(() => ""))
  const usedBy = plainAddress(text)
  if (usedBy !== undefined && (yield* accepts(usedBy))) {
    const reason = `another process runs Kafka in ${folder}, on ${usedBy}`
    return yield* new KafkaUnavailable({ missing: false, reason, usedBy })
  }
  yield* Effect.promise(() => rm(running, { recursive: true, force: true }))
  if (yield* make) return running
  return yield* new KafkaUnavailable({ missing: false, reason: `another process starts Kafka in ${folder}` })
})
