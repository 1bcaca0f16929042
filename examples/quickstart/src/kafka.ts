/** Which Kafka the demo runs on: `KAFKA_BROKERS`, else one of its own with Java, else the one in memory. */
import { Effect } from "effect"
import type { Scope } from "effect"
import { prepare, startBroker } from "./broker.ts"
import type { Cluster } from "./cluster.ts"
import type { DemoError } from "./error.ts"
import type { Flags } from "./flags.ts"
import { memoryCluster } from "./memory.ts"
import { plainCluster } from "./plain.ts"
import { say } from "./progress.ts"
import type { Folder, Run } from "./run.ts"

export interface Found {
  readonly kafka: Run["kafka"]
  readonly brokers: ReadonlyArray<string>
  readonly cluster: Cluster
}

const inMemory = (why: string): Effect.Effect<Found, never, Scope.Scope> =>
  Effect.suspend(() => {
    say(`Kafka: IN MEMORY, no real one (${why}). It ends with this process, so --resume is not possible.`)
    return Effect.map(memoryCluster, (cluster) => ({ kafka: "memory", brokers: [], cluster }))
  })

const notice = Effect.sleep("2 seconds").pipe(
  Effect.andThen(Effect.sync(() => say("Maven is fetching Kafka's jars, this once ..."))),
  Effect.andThen(Effect.never)
)

const onJava = Effect.fnUntraced(function* (
  folder: Folder,
  fresh: boolean
): Effect.fn.Return<Found, DemoError, Scope.Scope> {
  const java = yield* Effect.result(Effect.raceFirst(prepare, notice))
  if (java._tag === "Failure") {
    return yield* inMemory(`${java.failure.message}; set KAFKA_BROKERS or install Java 17 and Maven`)
  }
  const began = performance.now()
  const broker = yield* startBroker({ state: folder.path, fresh })
  say(`Kafka: ${broker}, started here with Java in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return { kafka: "java", brokers: [broker], cluster: plainCluster([broker]) }
})

/** The Kafka of the run that is resumed, or the first that is there. */
export const findKafka = (flags: Flags, folder: Folder, resumed: Run | undefined) =>
  Effect.suspend((): Effect.Effect<Found, DemoError, Scope.Scope> => {
    const brokers = resumed?.brokers ?? (process.env["KAFKA_BROKERS"] ?? "").split(",").filter((b) => b !== "")
    if (flags.memory) return inMemory("--memory")
    if (resumed?.kafka === "java" || brokers.length === 0) return onJava(folder, resumed === undefined)
    say(`Kafka: ${brokers.join(", ")}${resumed === undefined ? " (KAFKA_BROKERS)" : ""}`)
    return Effect.succeed({ kafka: "env", brokers, cluster: plainCluster(brokers) })
  })
