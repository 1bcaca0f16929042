/**
 * Connections to the brokers of a cluster: who leads what, one `Broker` to each node, and one more to the group
 * coordinator, so that a JoinGroup that the broker keeps for a minute holds up nothing else, and closing the
 * connection of an unanswered commit disturbs nothing else. (A broker works on one request of a connection at a time.)
 *
 * A `Broker` whose connection failed is thrown away and made anew: reconnecting inside of kafkajs is not exclusive, and
 * two requests at the same time would open two sockets and forget one.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { classify, fromCode } from "./classify.ts"
import { codeName } from "./codes.ts"
import { decodeFetch } from "./fetchResponse.ts"
import { askMetadata, type Metadata, type TopicMetadata } from "./metadata.ts"
import { type Broker, destroyPool, instrument, type Parts, type WireCall } from "./wire.ts"

const keepErrors = (data: unknown) => data

/** Answers come back whole, with their error codes; those of Fetch by the driver's own decoder. */
const rewriter =
  (syncTimeout: number) =>
  (call: WireCall): WireCall => {
    switch (call.request.apiName) {
      case "Fetch": {
        const version = call.request.apiVersion
        return {
          ...call,
          response: { decode: async (payload) => decodeFetch(payload, version), parse: keepErrors }
        }
      }
      case "ListOffsets":
      case "Metadata":
      case "OffsetCommit":
      case "OffsetFetch":
      case "GroupCoordinator":
      case "JoinGroup":
      case "Heartbeat":
      case "LeaveGroup":
        return { ...call, response: { decode: call.response.decode, parse: keepErrors } }
      case "SyncGroup":
        // answered when the leader has assigned, or when its session has ended without it
        return { ...call, response: { decode: call.response.decode, parse: keepErrors }, requestTimeout: syncTimeout }
      default:
        return call
    }
  }

const bootstrap = "bootstrap"

type Pool = Broker["connectionPool"]

export class Cluster {
  metadata: Metadata = { brokers: new Map(), topics: new Map() }
  readonly #parts: Parts
  readonly #pools = new Set<Pool>()
  readonly #brokers = new Map<string, Promise<Broker>>()
  readonly #rewrite: (call: WireCall) => WireCall
  #closed = false

  /** `syncTimeout`: milliseconds that a SyncGroup may take. */
  constructor(parts: Parts, syncTimeout: number) {
    this.#parts = parts
    this.#rewrite = rewriter(syncTimeout)
  }

  /** Some broker that answers: a known node, else one of the bootstrap list, which is gone through in turn. */
  async any(): Promise<Broker> {
    for (const [id] of this.metadata.brokers) {
      const known = this.#brokers.get(this.#nodeKey(id))
      const broker = await known?.catch(() => undefined)
      if (broker?.isConnected()) return broker
    }
    for (const [id] of this.metadata.brokers) {
      const broker = await this.node(id).catch(() => undefined)
      if (broker) return broker
    }
    return this.#open(bootstrap, undefined, undefined)
  }

  /** The given broker, connected. Another `lane` is another pair of connections to it. */
  node(id: number, lane = ""): Promise<Broker> {
    const address = this.metadata.brokers.get(id)
    if (!address) {
      return Promise.reject(new KafkaClientError({ reason: "Connection", detail: `broker ${id} is not known` }))
    }
    return this.#open(this.#nodeKey(id, lane), address, id)
  }

  #nodeKey(id: number, lane = ""): string {
    const address = this.metadata.brokers.get(id)
    return `node ${id}@${address?.host}:${address?.port} ${lane}`
  }

  /** Asks for the coordinator and connects to it, over a connection of its own. */
  async coordinator(groupId: string): Promise<Broker> {
    const asked = await this.use(await this.any(), "find the group coordinator", (broker) =>
      broker.findGroupCoordinator({ groupId, coordinatorType: 0 })
    )
    if (asked.errorCode !== 0) throw fromCode(codeName(asked.errorCode), `find the coordinator of group ${groupId}`)
    const { host, nodeId, port } = asked.coordinator
    return this.#open(`group ${nodeId}@${host}:${port}`, { host, port }, nodeId)
  }

  async refresh(topics: ReadonlyArray<string>): Promise<ReadonlyMap<string, TopicMetadata>> {
    const metadata = await this.use(await this.any(), "read metadata", (broker) => askMetadata(broker, topics))
    const merged = new Map(this.metadata.topics)
    for (const [topic, found] of metadata.topics) merged.set(topic, found)
    this.metadata = { brokers: metadata.brokers, topics: merged }
    this.#tidy()
    return metadata.topics
  }

  /** Closes what the metadata no longer name: brokers that have gone, and the one that was there for the beginning. */
  #tidy(): void {
    const { brokers } = this.metadata
    if (brokers.size === 0) return
    const named = [...brokers.keys()].map((id) => this.#nodeKey(id))
    for (const [key, entry] of this.#brokers) {
      if (key !== bootstrap && (key.startsWith("group ") || named.some((name) => key.startsWith(name)))) continue
      this.#brokers.delete(key)
      void entry.then(
        (broker) => this.#destroy(broker.connectionPool),
        () => undefined
      )
    }
  }

  /** One request; when it fails for another reason than an error code, the broker's connections are closed. */
  async use<A>(broker: Broker, what: string, ask: (broker: Broker) => Promise<A>): Promise<A> {
    try {
      return await ask(broker)
    } catch (error) {
      this.discard(broker)
      throw classify(error, what, true)
    }
  }

  discard(broker: Broker): void {
    for (const [key, entry] of this.#brokers) {
      void entry.then(
        (b) => b === broker && this.#brokers.get(key) === entry && this.#brokers.delete(key),
        () => undefined
      )
    }
    this.#destroy(broker.connectionPool)
  }

  close(): void {
    this.#closed = true
    for (const pool of this.#pools) this.#destroy(pool)
    this.#brokers.clear()
  }

  #destroy(pool: Pool): void {
    if (this.#pools.delete(pool)) destroyPool(pool)
  }

  #open(key: string, address: { host: string; port: number } | undefined, id: number | undefined): Promise<Broker> {
    const existing = this.#brokers.get(key)
    if (existing) return existing
    const opening = this.#connect(address, id)
    this.#brokers.set(key, opening)
    opening.catch(() => {
      if (this.#brokers.get(key) === opening) this.#brokers.delete(key)
    })
    return opening
  }

  async #connect(address: { host: string; port: number } | undefined, id: number | undefined): Promise<Broker> {
    if (this.#closed) throw new KafkaClientError({ reason: "Closed", detail: "the client was closed" })
    const pool = await this.#parts.buildPool(address)
    instrument(pool, this.#rewrite)
    this.#pools.add(pool)
    if (this.#closed) this.#destroy(pool)
    const broker = this.#parts.makeBroker(pool, id)
    try {
      await broker.connect()
      return broker
    } catch (error) {
      this.#destroy(pool)
      throw classify(error, `connect to ${pool.host}:${pool.port}`)
    }
  }
}
