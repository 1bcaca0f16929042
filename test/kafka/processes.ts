/** Nodes of Kafka as Java processes, under a supervisor that ends them with whoever started them. */
import { Deferred, Effect, Exit } from "effect"
import type { Duration, Scope } from "effect"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { exec } from "./exec.ts"
import type { Nodes } from "./kafka.ts"
import * as Folder from "./folder.ts"
import * as Java from "./java.ts"
import { broken, certificate, keytool } from "./java.ts"
import type { KafkaUnavailable } from "./java.ts"
import * as Settings from "./settings.ts"
import type { Command, Report } from "./supervisor.ts"

const readyWithin: Duration.Input = "60 seconds"
/** The supervisor's own grace, and some time to remove the data. */
const endWithin: Duration.Input = "10 seconds"

const jvm = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
const brokerJvm = [...jvm, "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"]

export interface Prepared {
  readonly command: string
  readonly classes: string
  /** Kafka's classes as Java has loaded them before, where `archive.ts` has kept them: a start takes half of the work then. */
  readonly archive: string
}

/** What Java processes are started with. Fails where there can be none. */
export const prepare: Effect.Effect<Prepared, KafkaUnavailable> = Java.prepare

interface Node {
  ready: Deferred.Deferred<void, KafkaUnavailable>
  exited: Deferred.Deferred<void>
}

/** `kept`: the data stays when it ends, so that a later one waits for that end. */
const makeSupervisor = Effect.fnUntraced(function* (folder: string, kept: boolean) {
  const nodes = new Map<number, Node>()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const started = spawn(
        process.execPath,
        [join(dirname(fileURLToPath(import.meta.url)), "supervisor.ts"), folder],
        {
          stdio: ["pipe", "pipe", "inherit"],
          detached: true
        }
      )
      // a write to a supervisor that has ended is answered by its exit
      started.stdin.on("error", () => {})
      return started
    }),
    (started, exit) =>
      Effect.callback<void>((resume) => {
        if (started.exitCode !== null || started.signalCode !== null) return resume(Effect.void)
        started.stdin.end()
        if (kept && Exit.hasInterrupts(exit)) {
          // who presses Ctrl-C does not want to wait, and nothing but the next start in that folder has to
          started.stdout.destroy()
          started.unref()
          return resume(Effect.void)
        }
        started.once("exit", () => resume(Effect.void))
      }).pipe(Effect.timeoutOrElse({ duration: endWithin, orElse: () => Effect.sync(() => started.kill("SIGKILL")) }))
  )
  createInterface({ input: child.stdout }).on("line", (line) => {
    const report = JSON.parse(line) as Report
    const node = nodes.get(report.node)
    if (node === undefined) return
    if (report.event === "ready") Deferred.doneUnsafe(node.ready, Exit.void)
    if (report.event === "exited") {
      Deferred.doneUnsafe(node.ready, Exit.fail(broken(`Kafka ended before it was ready: ${report.how}`)))
      Deferred.doneUnsafe(node.exited, Exit.void)
    }
  })
  const send = (command: Command) => child.stdin.write(`${JSON.stringify(command)}\n`)

  const log = (id: number) =>
    Effect.promise(() => readFile(join(folder, `node-${id}.log`), "utf8").catch(() => "")).pipe(
      Effect.map((text) => text.slice(-100_000))
    )

  const run = Effect.fnUntraced(function* (id: number, command: string, args: ReadonlyArray<string>) {
    const node: Node = { ready: Deferred.makeUnsafe(), exited: Deferred.makeUnsafe() }
    nodes.set(id, node)
    send({ run: id, command, args, ready: Settings.readyText })
    yield* Deferred.await(node.ready).pipe(
      Effect.timeoutOrElse({
        duration: readyWithin,
        orElse: () => Effect.fail(broken(`Kafka was not ready after ${readyWithin}`))
      }),
      Effect.catch((error) =>
        Effect.flatMap(log(id), (text) => Effect.fail(broken(`${error.reason}\n${text.trim().slice(-2000)}`)))
      )
    )
  })

  const signal = (id: number, name: NodeJS.Signals) => Effect.sync(() => send({ signal: id, name }))

  const end = (id: number, name: "SIGTERM" | "SIGKILL") =>
    Effect.suspend(() => {
      const node = nodes.get(id)
      return node === undefined ? Effect.void : Effect.andThen(signal(id, name), Deferred.await(node.exited))
    })

  return { run, signal, end, log }
})

export interface Options extends Prepared {
  /** What ends with this Kafka. */
  readonly folder: string
  /** Where each node has a folder of its own. */
  readonly data: string
  /** The data stays. */
  readonly kept: boolean
  /** Data that is there is thrown away. */
  readonly fresh: boolean
  readonly heap: string | undefined
  /** More options of each broker's Java. */
  readonly jvm?: ReadonlyArray<string> | undefined
}

export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Nodes, never, Scope.Scope> {
  const { classes, command, folder } = options
  const supervisor = yield* makeSupervisor(folder, options.kept)
  const data = (id: number) => join(options.data, `node-${id}`)
  // it is only a help: one that does not fit is passed over
  const archived = existsSync(options.archive) ? [`-XX:SharedArchiveFile=${options.archive}`, "-Xlog:cds=off"] : []
  const propertiesFile = (id: number) => Folder.propertiesFile(folder, id)

  const settle: Nodes["settle"] = (properties, users) =>
    Effect.suspend(() => {
      // the last that formatting writes: where it is missing, a first start has not come to its end
      const hasData = [...properties.keys()].every((id) => existsSync(join(data(id), "meta.properties")))
      const fresh = options.fresh || !hasData
      const clusterId = crypto.randomUUID().replaceAll("-", "").slice(0, 22)
      return Effect.forEach(
        properties,
        ([id, text]) =>
          Effect.gen(function* () {
            yield* Effect.promise(() => writeFile(propertiesFile(id), text))
            if (!fresh) return
            yield* Effect.promise(() => rm(data(id), { recursive: true, force: true }))
            yield* Effect.promise(() => mkdir(data(id)))
            const format = ["kafka.tools.StorageTool", "format", "-t", clusterId, "-c", propertiesFile(id), ...users]
            yield* exec(command, [...jvm, ...archived, "-cp", classes, ...format]).pipe(
              Effect.mapError((error) => broken(`Kafka's storage could not be formatted: ${error.detail}`))
            )
          }),
        { concurrency: 2, discard: true }
      )
    })

  const heap = `-Xmx${options.heap ?? "512m"}`
  return {
    source: "java",
    listen: "127.0.0.1",
    data,
    certificate: certificate(folder, keytool),
    settle,
    run: (id) => {
      const own = [...brokerJvm, ...(options.jvm ?? archived), heap]
      return supervisor.run(id, command, [...own, "-cp", classes, "kafka.Kafka", propertiesFile(id)])
    },
    end: supervisor.end,
    signal: supervisor.signal,
    log: supervisor.log
  }
})
