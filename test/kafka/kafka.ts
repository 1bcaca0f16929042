/**
 * Where a real Kafka comes from: the first of these that is there.
 *
 * 1. `KAFKA_BROKERS`: one that runs already. It takes only requests without wishes, since it can be neither configured nor killed.
 * 2. A container, when one is asked for: by `KAFKA_CONTAINER=1`, or by `KAFKA_TEST_IMAGE`, which names the image.
 * 3. Java with Maven: Kafka 4.1's own jars in KRaft mode, on 127.0.0.1, with free ports and, unless `folder` names another one, a
 *    data folder that is removed at the end. It goes before a container that nobody has asked for, since it is there in two
 *    seconds, and ends however this process ends.
 * 4. A container.
 *
 * Where none is, `start` fails with `KafkaUnavailable` and says what is missing. A `folder` needs Java.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Containers from "./containers.ts"
import * as Folder from "./folder.ts"
import { broken } from "./java.ts"
import type { KafkaUnavailable } from "./java.ts"
import { choose } from "./ladder.ts"
import * as Ports from "./ports.ts"
import * as Processes from "./processes.ts"
import * as Proxy from "./proxy.ts"
import * as Settings from "./settings.ts"
import { onCi } from "./skips.ts"

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
  readonly source: "env" | "java" | "container"
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

/** What the nodes of a cluster run in. Nodes are counted from 1 here, where node ids start there. */
export interface Nodes {
  readonly source: "java" | "container"
  /** The address on which a node listens to its clients; they reach it on 127.0.0.1 in any case. */
  readonly listen: string
  /** Where a node keeps its data. */
  readonly data: (id: number) => string
  readonly certificate: Effect.Effect<Settings.Certificate & { readonly ca: string }, KafkaUnavailable>
  /** The `server.properties` of each, and the users that its storage begins with. */
  readonly settle: (
    properties: ReadonlyMap<number, string>,
    users: ReadonlyArray<string>
  ) => Effect.Effect<void, KafkaUnavailable>
  /** Returns when it is ready. */
  readonly run: (id: number) => Effect.Effect<void, KafkaUnavailable>
  /** Returns when it is gone. */
  readonly end: (id: number, name: "SIGTERM" | "SIGKILL") => Effect.Effect<void, KafkaUnavailable>
  readonly signal: (id: number, name: "SIGSTOP" | "SIGCONT") => Effect.Effect<void, KafkaUnavailable>
  readonly log: (id: number) => Effect.Effect<string, KafkaUnavailable>
}

// ---------------------------------------------------------------------------------------------------------------------
// A cluster of our own
// ---------------------------------------------------------------------------------------------------------------------

/** `open` is told the ports on which clients come. */
const startNodes = Effect.fnUntraced(function* (
  options: KafkaOptions,
  open: (ports: ReadonlyArray<number>) => Effect.Effect<Nodes, KafkaUnavailable, Scope.Scope>
): Effect.fn.Return<Kafka, KafkaUnavailable, Scope.Scope> {
  const listeners: ReadonlyArray<Settings.Listener> = [
    "controller",
    "plain",
    ...(options.proxy === true ? (["proxied"] as const) : []),
    ...(options.sasl === true ? (["sasl"] as const) : []),
    ...(options.tls === true ? (["tls"] as const) : []),
    ...(options.sasl === true && options.tls === true ? (["saslTls"] as const) : [])
  ]
  const ids = Array.from({ length: options.nodes ?? 1 }, (_, index) => index + 1)
  const ports = yield* Ports.free(ids.length * listeners.length)
  const nodes = yield* open(ports.filter((_, at) => listeners[at % listeners.length] !== "controller"))
  const cluster = yield* Effect.forEach(ids, (id, index) =>
    Effect.gen(function* () {
      const own = Object.fromEntries(listeners.map((name, at) => [name, ports[index * listeners.length + at]]))
      const target: number | undefined = own["proxied"]
      const proxy = target === undefined ? undefined : yield* Proxy.make({ target, kafka: true })
      return { id, folder: nodes.data(id), ports: own, proxyPort: proxy?.port, proxy }
    })
  )
  const address = (node: (typeof cluster)[number], name: Settings.Listener) => `127.0.0.1:${node.ports[name] ?? 0}`
  const addresses = (name: Settings.Listener) => cluster.map((node) => address(node, name))

  const identity = options.tls === true ? yield* nodes.certificate : undefined
  const settings = { listen: nodes.listen, certificate: identity, overrides: options.properties ?? {} }
  yield* nodes.settle(
    new Map(cluster.map((node) => [node.id, Settings.serverProperties(node, cluster, settings)])),
    options.sasl === true ? Settings.scramUsers.flatMap((user) => ["--add-scram", user]) : []
  )
  yield* Effect.forEach(ids, nodes.run, { concurrency: "unbounded", discard: true })

  /** Nodes are counted from 0 outside. */
  const withNode = <A>(index: number, f: (id: number) => Effect.Effect<A, KafkaUnavailable>) =>
    Effect.suspend(() => {
      const id = ids[index]
      return id === undefined ? Effect.fail(broken(`there is no node ${index}`)) : f(id)
    })
  return {
    source: nodes.source,
    brokers: addresses("plain"),
    nodes: cluster.map((node) => ({ address: address(node, "plain"), proxy: node.proxy })),
    sasl:
      options.sasl === true
        ? { brokers: addresses("sasl"), username: Settings.username, password: Settings.password }
        : undefined,
    tls: identity === undefined ? undefined : { brokers: addresses("tls"), ca: identity.ca },
    saslTls: options.sasl === true && options.tls === true ? { brokers: addresses("saslTls") } : undefined,
    proxied: cluster.flatMap((node) => (node.proxy === undefined ? [] : [node.proxy.address])),
    kill: (index) => withNode(index, (id) => nodes.end(id, "SIGKILL")),
    stop: (index) => withNode(index, (id) => nodes.end(id, "SIGTERM")),
    restart: (index) => withNode(index, (id) => Effect.andThen(nodes.end(id, "SIGTERM"), nodes.run(id))),
    pause: (index) => withNode(index, (id) => nodes.signal(id, "SIGSTOP")),
    resume: (index) => withNode(index, (id) => nodes.signal(id, "SIGCONT")),
    log: (index) => withNode(index, nodes.log)
  }
})

const startJava = Effect.fnUntraced(function* (options: KafkaOptions, java: Processes.Prepared) {
  const kept = options.folder
  // the supervisor removes it
  const folder =
    kept === undefined
      ? yield* Effect.sync(() => mkdtempSync(join(tmpdir(), "concurrent-kafka-")))
      : yield* Folder.claim(kept)
  const { fresh = false, heap } = options
  const nodes = yield* Processes.make({ ...java, folder, data: kept ?? folder, kept: kept !== undefined, fresh, heap })
  return yield* startNodes(options, () => Effect.succeed(nodes))
})

const startContainer = (options: KafkaOptions, runtime: Containers.Runtime) =>
  hasWishes(options)
    ? startNodes(options, (ports) => Containers.make(runtime, { ports, heap: options.heap }))
    : Effect.map(Containers.simple(runtime, options.heap), (address) => unmanaged("container", [address]))

/** One that is only used. */
const unmanaged = (source: "env" | "container", brokers: ReadonlyArray<string>): Kafka => {
  const no = () =>
    Effect.fail(broken("this Kafka was asked for without wishes: it is neither stopped nor started here"))
  return {
    source,
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

// ---------------------------------------------------------------------------------------------------------------------
// The ladder
// ---------------------------------------------------------------------------------------------------------------------

/** What a Kafka with a folder is started with. Fails where there can be none. */
export const { prepare } = Processes

/** What a Kafka of our own runs in, unless it has a folder. */
export const rung = Effect.suspend(() =>
  choose({ java: prepare, container: Containers.usable, asked: Containers.asked(), strict: onCi })
)

/** A Kafka that lives as long as the scope. */
export const start = (options: KafkaOptions = {}): Effect.Effect<Kafka, KafkaUnavailable, Scope.Scope> =>
  Effect.suspend(() => {
    const brokers = (process.env["KAFKA_BROKERS"] ?? "").split(",").filter((address) => address !== "")
    if (brokers.length > 0 && !hasWishes(options)) return Effect.succeed(unmanaged("env", brokers))
    if (options.folder !== undefined) return Effect.flatMap(prepare, (java) => startJava(options, java))
    return Effect.flatMap(rung, (found) =>
      found.source === "java" ? startJava(options, found.how) : startContainer(options, found.how)
    )
  })
