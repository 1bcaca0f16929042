/**
 * Kafka's classes as Java has loaded them once (class data sharing): a broker that is started with them takes about half of the
 * processor's time to be ready. They are kept in the repository's cache folder, for each Java on its own.
 */
import { Effect } from "effect"
import { existsSync, mkdtempSync } from "node:fs"
import { rename, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { KafkaUnavailable } from "./java.ts"
import * as Ports from "./ports.ts"
import * as Processes from "./processes.ts"
import * as Settings from "./settings.ts"

/** Runs a broker for them, which takes some seconds, unless they are there. */
export const keep: Effect.Effect<void, KafkaUnavailable> = Effect.gen(function* () {
  const prepared = yield* Processes.prepare
  if (existsSync(prepared.archive)) return
  // the supervisor removes it
  const folder = yield* Effect.sync(() => mkdtempSync(join(tmpdir(), "concurrent-kafka-")))
  const made = `${prepared.archive}-${process.pid}`
  const nodes = yield* Processes.make({
    ...prepared,
    folder,
    data: folder,
    kept: false,
    fresh: true,
    heap: undefined,
    jvm: [`-XX:ArchiveClassesAtExit=${made}`]
  })
  const [controller, plain] = yield* Ports.free(2)
  const node = { id: 1, folder: nodes.data(1), ports: { controller: controller!, plain: plain! }, proxyPort: undefined }
  const settings = { listen: nodes.listen, certificate: undefined, overrides: {} }
  yield* nodes.settle(new Map([[1, Settings.serverProperties(node, [node], settings)]]), [])
  yield* nodes.run(1)
  yield* nodes.end(1, "SIGTERM")
  // a second process must never see half of them
  yield* Effect.promise(() => rename(made, prepared.archive).catch(() => rm(made, { force: true })))
}).pipe(Effect.scoped)
