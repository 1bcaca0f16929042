/**
 * Connections to the brokers of a cluster: who leads what, one `Broker` to each node, and one more to the group
 * coordinator, so that a JoinGroup that the broker keeps for a minute holds up nothing else, and closing the
 * connection of an unanswered commit disturbs nothing else. (A broker works on one request of a connection at a time.)
 *
 * A `Broker` whose connection failed is thrown away and made anew: what was under way over it is not to be answered later.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { Address, Broker, Connector, Metadata, TopicMetadata } from "../Broker.ts"
import { fromCode } from "./classify.ts"
import { codeName } from "./codes.ts"

const bootstrap = "bootstrap"

const isLedByOthers = (before: TopicMetadata | undefined, now: TopicMetadata): boolean =>
  [...now.leaders].some(([partition, leader]) => before?.leaders.get(partition) !== leader)

export class Cluster {
  metadata: Metadata = { brokers: new Map(), topics: new Map() }
  readonly connector: Connector
  /** told of each topic that is read, and says whether it is the one that is known */
  hears: (found: TopicMetadata) => boolean = () => true
  /** told when metadata have brought another leader for a partition, whoever has asked for them */
  onMoved: () => void = () => undefined
  /** all that were opened and not destroyed, connected or not */
  readonly #open = new Set<Broker>()
  readonly #brokers = new Map<string, Promise<Broker>>()
  #closed = false

  constructor(connector: Connector) {
    this.connector = connector
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
    return this.#get(bootstrap, undefined, undefined)
  }

  /** The given broker, connected. Another `lane` is another pair of connections to it. */
  node(id: number, lane = ""): Promise<Broker> {
    const address = this.metadata.brokers.get(id)
    if (!address) {
      return Promise.reject(new KafkaClientError({ reason: "Connection", detail: `broker ${id} is not known` }))
    }
    return this.#get(this.#nodeKey(id, lane), address, id)
  }

  #nodeKey(id: number, lane = ""): string {
    const address = this.metadata.brokers.get(id)
    return `node ${id}@${address?.host}:${address?.port} ${lane}`
  }

  /** Asks for the coordinator and connects to it, over a connection of its own. */
  async coordinator(groupId: string): Promise<Broker> {
    const asked = await this.use(await this.any(), "find the group coordinator", (broker) =>
      broker.findGroupCoordinator({ groupId })
    )
    if (asked.errorCode !== 0) throw fromCode(codeName(asked.errorCode), `find the coordinator of group ${groupId}`)
    const { host, nodeId, port } = asked.coordinator
    return this.#get(`group ${nodeId}@${host}:${port}`, { host, port }, nodeId)
  }

  /**
   * As `of` says, which may know of fewer brokers than there are; without it, as some broker does. What that one says against what is held takes
   * the place of nothing: it is `hears` that decides.
   */
  async refresh(
    topics: ReadonlyArray<string>,
    of?: Broker,
    hears: (found: TopicMetadata) => boolean = this.hears
  ): Promise<ReadonlyMap<string, TopicMetadata>> {
    const metadata = await this.use(of ?? (await this.any()), "read metadata", (broker) => broker.metadata(topics))
    const merged = new Map(this.metadata.topics)
    let hasMoved = false
    for (const [topic, found] of metadata.topics) {
      if (!hears(found) && of === undefined) continue
      hasMoved ||= isLedByOthers(merged.get(topic), found)
      merged.set(topic, found)
    }
    const brokers = of === undefined ? metadata.brokers : new Map([...this.metadata.brokers, ...metadata.brokers])
    this.metadata = { brokers, topics: merged }
    if (of === undefined) this.#tidy()
    if (hasMoved) this.onMoved()
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
        (broker) => this.#destroy(broker),
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
      throw this.connector.classify(error, what, true)
    }
  }

  discard(broker: Broker): void {
    for (const [key, entry] of this.#brokers) {
      void entry.then(
        (b) => b === broker && this.#brokers.get(key) === entry && this.#brokers.delete(key),
        () => undefined
      )
    }
    this.#destroy(broker)
  }

  close(): void {
    this.#closed = true
    for (const broker of this.#open) this.#destroy(broker)
    this.#brokers.clear()
  }

  #destroy(broker: Broker): void {
    if (this.#open.delete(broker)) broker.destroy()
  }

  #get(key: string, address: Address | undefined, id: number | undefined): Promise<Broker> {
    const existing = this.#brokers.get(key)
    if (existing) return existing
    const opening = this.#connect(address, id)
    this.#brokers.set(key, opening)
    opening.catch(() => {
      if (this.#brokers.get(key) === opening) this.#brokers.delete(key)
    })
    return opening
  }

  async #connect(address: Address | undefined, id: number | undefined): Promise<Broker> {
    if (this.#closed) throw new KafkaClientError({ reason: "Closed", detail: "the client was closed" })
    const broker = await this.connector.open(address, id)
    this.#open.add(broker)
    if (this.#closed) this.#destroy(broker)
    try {
      await broker.connect()
      return broker
    } catch (error) {
      this.#destroy(broker)
      throw this.connector.classify(error, `connect to ${broker.address}`)
    }
  }
}
