/**
 * Where a real Kafka comes from: the first of these that is there.
 *
 * 1. `KAFKA_BROKERS`: one that runs already. It takes only requests without wishes, since it can be neither configured nor killed.
 * 2. Java with Maven: Kafka 4.1's own jars in KRaft mode, on 127.0.0.1, with free ports and, unless `folder` names another one, a
 *    data folder that is removed at the end.
 *
 * Where none is, `start` fails with `KafkaUnavailable` and says what is missing.
 */
import { Deferred, Effect, Exit } from "effect"
import type { Duration, Scope } from "effect"
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync } from "node:fs"
import { mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { exec } from "./exec.ts"
import * as Folder from "./folder.ts"
import { certificate, classPath, java, KafkaUnavailable } from "./java.ts"
import * as Ports from "./ports.ts"
import * as Proxy from "./proxy.ts"
import * as Settings from "./settings.ts"
import type { Command, Report } from "./supervisor.ts"

export { KafkaUnavailable } from "./java.ts"
export { mechanisms, unsecuredToken } from "./settings.ts"

export interface KafkaOptions {
  /** Every node is broker and controller. With three, topics are replicated three times and one node may die. Default 1. */
  readonly nodes?: 1 | 3 | undefined
  /** Java properties of each node, over ours. */
  readonly properties?: Readonly<Record<string, string>> | undefined
  /** A listener with all of `mechanisms`, and with `tls` one more with both. */
  readonly sasl?: boolean | undefined
  /** A listener with a certificate made for this cluster. */
  readonly tls?: boolean | undefined
  /** A proxy in front of each node, in this process: clients of `proxied` brokers learn no other address. */
  readonly proxy?: boolean | undefined
  /** A Kafka of one's own, even when `KAFKA_BROKERS` is set: what a test needs that kills it. */
  readonly own?: boolean | undefined
  /**
   * Keeps the data there, and goes on with what the last one has left when it was started with the same options; on other ports.
   * One Kafka runs in it at a time: this one waits for the last one to be gone, and fails with `usedBy` when it is not soon.
   */
  readonly folder?: string | undefined
  /** Throws away what is in `folder`. */
  readonly fresh?: boolean | undefined
  /** Of each node's Java, as in `-Xmx512m`, which is the default. */
  readonly heap?: string | undefined
}

export interface KafkaNode {
  readonly address: string
  /** Only with `proxy: true`. */
  readonly proxy: Proxy.Proxy | undefined
}

export interface Kafka {
  readonly source: "env" | "java"
  /** Addresses without encryption or authentication. */
  readonly brokers: ReadonlyArray<string>
  /** Empty when the Kafka is not ours. */
  readonly nodes: ReadonlyArray<KafkaNode>
  readonly sasl:
    | { readonly brokers: ReadonlyArray<string>; readonly username: string; readonly password: string }
    | undefined
  readonly tls: { readonly brokers: ReadonlyArray<string>; readonly ca: string } | undefined
  readonly saslTls: { readonly brokers: ReadonlyArray<string> } | undefined
  /** The same nodes through their proxies. */
  readonly proxied: ReadonlyArray<string>
  /** SIGKILL; returns when the process is gone. */
  readonly kill: (node: number) => Effect.Effect<void, KafkaUnavailable>
  /** SIGTERM; returns when the process is gone. */
  readonly stop: (node: number) => Effect.Effect<void, KafkaUnavailable>
  /** Starts a node again on its data and ports, after stopping it when it runs; returns when it is ready. */
  readonly restart: (node: number) => Effect.Effect<void, KafkaUnavailable>
  /** SIGSTOP: the process stands still, its sockets stay open. */
  readonly pause: (node: number) => Effect.Effect<void, KafkaUnavailable>
  /** SIGCONT. */
  readonly resume: (node: number) => Effect.Effect<void, KafkaUnavailable>
  /** What a node has written to its log. */
  readonly log: (node: number) => Effect.Effect<string, KafkaUnavailable>
}

const readyText = "Kafka Server started"
const readyWithin: Duration.Input = "60 seconds"
/** The supervisor's own grace, and some time to remove the data. */
const endWithin: Duration.Input = "10 seconds"

const jvm = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
const brokerJvm = [...jvm, "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"]

const broken = (reason: string) => new KafkaUnavailable({ missing: false, reason })

// ---------------------------------------------------------------------------------------------------------------------
// The supervisor, seen from here
// ---------------------------------------------------------------------------------------------------------------------

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
    send({ run: id, command, args, ready: readyText })
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

// ---------------------------------------------------------------------------------------------------------------------
// A cluster of our own
// ---------------------------------------------------------------------------------------------------------------------

/** What a Kafka of our own is started with. Fails where there can be none. */
export const prepare = Effect.all({ command: java, classes: classPath })

const startJava = Effect.fnUntraced(function* (
  options: KafkaOptions
): Effect.fn.Return<Kafka, KafkaUnavailable, Scope.Scope> {
  const { classes, command } = yield* prepare
  const kept = options.folder
  // the supervisor removes it
  const folder =
    kept === undefined
      ? yield* Effect.sync(() => mkdtempSync(join(tmpdir(), "concurrent-kafka-")))
      : yield* Folder.claim(kept)
  const supervisor = yield* makeSupervisor(folder, kept !== undefined)

  const listeners: ReadonlyArray<Settings.Listener> = [
    "plain",
    "controller",
    ...(options.proxy === true ? (["proxied"] as const) : []),
    ...(options.sasl === true ? (["sasl"] as const) : []),
    ...(options.tls === true ? (["tls"] as const) : []),
    ...(options.sasl === true && options.tls === true ? (["saslTls"] as const) : [])
  ]
  const ids = Array.from({ length: options.nodes ?? 1 }, (_, index) => index + 1)
  const ports = yield* Ports.free(ids.length * listeners.length)
  const cluster = yield* Effect.forEach(ids, (id, index) =>
    Effect.gen(function* () {
      const own = Object.fromEntries(listeners.map((name, at) => [name, ports[index * listeners.length + at]]))
      const target: number | undefined = own["proxied"]
      const proxy = target === undefined ? undefined : yield* Proxy.make({ target, kafka: true })
      return { id, folder: join(kept ?? folder, `node-${id}`), ports: own, proxyPort: proxy?.port, proxy }
    })
  )
  const address = (node: (typeof cluster)[number], name: Settings.Listener) => `127.0.0.1:${node.ports[name] ?? 0}`
  const addresses = (name: Settings.Listener) => cluster.map((node) => address(node, name))

  const identity = options.tls === true ? yield* certificate(folder) : undefined
  const propertiesFile = (id: number) => Folder.propertiesFile(folder, id)
  // the last that formatting writes: where it is missing, a first start has not come to its end
  const hasData = cluster.every((node) => existsSync(join(node.folder, "meta.properties")))
  const fresh = options.fresh === true || !hasData
  const clusterId = crypto.randomUUID().replaceAll("-", "").slice(0, 22)
  yield* Effect.forEach(
    cluster,
    (node) =>
      Effect.gen(function* () {
        const text = Settings.serverProperties(node, cluster, identity, options.properties ?? {})
        yield* Effect.promise(() => writeFile(propertiesFile(node.id), text))
        if (!fresh) return
        yield* Effect.promise(() => rm(node.folder, { recursive: true, force: true }))
        yield* Effect.promise(() => mkdir(node.folder))
        const users = options.sasl === true ? Settings.scramUsers.flatMap((user) => ["--add-scram", user]) : []
        const format = ["kafka.tools.StorageTool", "format", "-t", clusterId, "-c", propertiesFile(node.id), ...users]
        yield* exec(command, [...jvm, "-cp", classes, ...format]).pipe(
          Effect.mapError((error) => broken(`Kafka's storage could not be formatted: ${error.detail}`))
        )
      }),
    { concurrency: 2, discard: true }
  )

  const heap = `-Xmx${options.heap ?? "512m"}`
  const run = (id: number) =>
    supervisor.run(id, command, [...brokerJvm, heap, "-cp", classes, "kafka.Kafka", propertiesFile(id)])
  yield* Effect.forEach(ids, run, { concurrency: "unbounded", discard: true })

  /** Nodes are counted from 0 outside and from 1 in Kafka, where node ids start there. */
  const withNode = <A>(index: number, f: (id: number) => Effect.Effect<A, KafkaUnavailable>) =>
    Effect.suspend(() => {
      const id = ids[index]
      return id === undefined ? Effect.fail(broken(`there is no node ${index}`)) : f(id)
    })
  return {
    source: "java",
    brokers: addresses("plain"),
    nodes: cluster.map((node) => ({ address: address(node, "plain"), proxy: node.proxy })),
    sasl:
      options.sasl === true
        ? { brokers: addresses("sasl"), username: Settings.username, password: Settings.password }
        : undefined,
    tls: identity === undefined ? undefined : { brokers: addresses("tls"), ca: identity.ca },
    saslTls: options.sasl === true && options.tls === true ? { brokers: addresses("saslTls") } : undefined,
    proxied: cluster.flatMap((node) => (node.proxy === undefined ? [] : [node.proxy.address])),
    kill: (index) => withNode(index, (id) => supervisor.end(id, "SIGKILL")),
    stop: (index) => withNode(index, (id) => supervisor.end(id, "SIGTERM")),
    restart: (index) => withNode(index, (id) => Effect.andThen(supervisor.end(id, "SIGTERM"), run(id))),
    pause: (index) => withNode(index, (id) => supervisor.signal(id, "SIGSTOP")),
    resume: (index) => withNode(index, (id) => supervisor.signal(id, "SIGCONT")),
    log: (index) => withNode(index, supervisor.log)
  }
})

const foreign = (brokers: ReadonlyArray<string>): Kafka => {
  const no = () =>
    Effect.fail(broken("KAFKA_BROKERS names a Kafka that is not ours: it is neither stopped nor started here"))
  return {
    source: "env",
    brokers,
    nodes: [],
    sasl: undefined,
    tls: undefined,
    saslTls: undefined,
    proxied: [],
    kill: no,
    stop: no,
    restart: no,
    pause: no,
    resume: no,
    log: no
  }
}

const hasWishes = (options: KafkaOptions) =>
  options.own === true ||
  options.sasl === true ||
  options.tls === true ||
  options.proxy === true ||
  options.properties !== undefined ||
  options.folder !== undefined ||
  (options.nodes ?? 1) !== 1

/** A Kafka that lives as long as the scope. */
export const start = (options: KafkaOptions = {}): Effect.Effect<Kafka, KafkaUnavailable, Scope.Scope> =>
  Effect.suspend(() => {
    const brokers = (process.env["KAFKA_BROKERS"] ?? "").split(",").filter((address) => address !== "")
    return brokers.length > 0 && !hasWishes(options) ? Effect.succeed(foreign(brokers)) : startJava(options)
  })
