/**
 * A client with a hand on what its sessions say to the coordinator: a SyncGroup that is late, a member that is
 * thrown out, a connection that breaks, and the requests that were sent.
 */
import type { Session } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Broker, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer } from "../src/Broker.ts"
import {
  checkOptions,
  type Cluster,
  type Library,
  makeAdmin,
  makeProducer,
  makeSession,
  producerSettings,
  requestTimeoutOf
} from "../src/Driver.ts"
import type { Fetched } from "../src/Protocol.ts"

export interface Control {
  memberId: string
  generation: number
  /** SyncGroups wait for this */
  syncGate: Promise<void> | undefined
  /** the error code that the broker is made to have answered the next commit with */
  commitAnswer: number
  /** the error code that the broker is made to have answered every JoinGroup with */
  joinAnswer: number
  /** the error code that the broker is made to have answered every heartbeat of the consumer protocol with */
  beatAnswer: number
  /** answers to heartbeats of the consumer protocol wait for this */
  beatGate: Promise<void> | undefined
  /** heartbeats of the consumer protocol as they were sent */
  readonly beats: Array<ConsumerGroupHeartbeat>
  /** the topics of each fetch, in their order */
  readonly fetches: Array<ReadonlyArray<string>>
  /** what the broker is made to have answered fetches with */
  fetchAnswer: ((answer: Fetched) => Fetched) | undefined
  readonly requests: Array<string>
  coordinator: Broker | undefined
  /** every broker object that was handed out */
  readonly brokers: Set<Broker>
}

const controls = new WeakMap<Session, Control>()

export const controlOf = (session: Session): Control => controls.get(session)!

const watch = (cluster: Cluster, control: Control): Cluster => {
  const mark = (broker: Broker): Broker => {
    if (control.brokers.has(broker)) return broker
    control.brokers.add(broker)
    const hands = broker as unknown as Record<string, ((args: unknown) => Promise<unknown>) | undefined>
    const wrap = (name: string, around: (call: () => Promise<unknown>, args: unknown) => Promise<unknown>) => {
      const original = hands[name]?.bind(broker)
      if (original === undefined) return
      hands[name] = (args) => {
        control.requests.push(name)
        return around(() => original(args), args)
      }
    }
    wrap("joinGroup", async (call) => {
      if (control.joinAnswer !== 0) {
        return {
          errorCode: control.joinAnswer,
          generationId: -1,
          groupProtocol: "",
          leaderId: "",
          memberId: "",
          members: []
        }
      }
      const joined = (await call()) as Awaited<ReturnType<Broker["joinGroup"]>>
      if (joined.memberId) control.memberId = joined.memberId
      control.generation = joined.generationId
      return joined
    })
    wrap("syncGroup", async (call) => {
      await control.syncGate
      return call()
    })
    wrap("offsetCommit", async (call) => {
      const code = control.commitAnswer
      if (code === 0) return call()
      control.commitAnswer = 0
      const answer = (await call()) as Awaited<ReturnType<Broker["offsetCommit"]>>
      return {
        responses: answer.responses.map(({ partitions, topic }) => ({
          topic,
          partitions: partitions.map(({ partition }) => ({ partition, errorCode: code }))
        }))
      }
    })
    wrap("consumerGroupHeartbeat", async (call, args) => {
      const beat = args as ConsumerGroupHeartbeat
      control.beats.push(beat)
      control.memberId = beat.memberId
      if (control.beatAnswer !== 0) {
        const refused = { errorMessage: undefined, memberEpoch: 0, heartbeatInterval: 0, assignment: undefined }
        return { ...refused, errorCode: control.beatAnswer }
      }
      const answer = (await call()) as ConsumerGroupHeartbeatAnswer
      await control.beatGate
      control.generation = answer.memberEpoch
      return answer
    })
    wrap("fetch", async (call, args) => {
      control.fetches.push((args as Parameters<Broker["fetch"]>[0]).topics.map(({ topic }) => topic))
      const answer = (await call()) as Fetched
      return control.fetchAnswer?.(answer) ?? answer
    })
    for (const name of ["heartbeat", "offsetFetch", "leaveGroup"]) wrap(name, (call) => call())
    return broker
  }
  const coordinator = cluster.coordinator.bind(cluster)
  const node = cluster.node.bind(cluster)
  cluster.coordinator = async (groupId) => (control.coordinator = mark(await coordinator(groupId)))
  cluster.node = async (id, lane) => mark(await node(id, lane))
  return cluster
}

export const instrumented = (library: Library, brokers: ReadonlyArray<string>): Layer.Layer<KafkaClient> =>
  Layer.effect(
    KafkaClient,
    Effect.gen(function* () {
      const open = library.open(checkOptions({ brokers }), yield* Effect.context<never>())
      return KafkaClient.of({
        name: `${library.name}, instrumented`,
        enabled: true,
        openSession: (settings) =>
          Effect.suspend(() => {
            const control: Control = {
              memberId: "",
              generation: -1,
              syncGate: undefined,
              commitAnswer: 0,
              joinAnswer: 0,
              beatAnswer: 0,
              beatGate: undefined,
              beats: [],
              fetches: [],
              fetchAnswer: undefined,
              requests: [],
              coordinator: undefined,
              brokers: new Set()
            }
            const requestTimeout = requestTimeoutOf(settings.sessionTimeout)
            const openCluster = () => watch(open(requestTimeout, settings.sessionTimeout), control)
            return Effect.tap(makeSession({ settings, requestTimeout, openCluster }), (session) =>
              Effect.sync(() => controls.set(session, control))
            )
          }),
        openProducer: makeProducer(() => open(10_000, 0), producerSettings(60_000)),
        openAdmin: Effect.map(
          Effect.acquireRelease(
            Effect.sync(() => open(10_000, 0)),
            (cluster) => Effect.sync(() => cluster.close())
          ),
          (cluster) => makeAdmin(cluster, 10_000)
        )
      })
    })
  )

/** Holds the session's SyncGroups; the result lets them go. */
export const holdSync = (session: Session): Effect.Effect<Effect.Effect<void>> =>
  Effect.sync(() => {
    const control = controlOf(session)
    const { promise, resolve } = Promise.withResolvers<void>()
    control.syncGate = promise
    return Effect.sync(() => {
      control.syncGate = undefined
      resolve()
    })
  })

/** Over a connection of its own, as an operator would. */
export const evict = (library: Library, brokers: ReadonlyArray<string>, session: Session): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { groupId } = session.settings
    const open = library.open(checkOptions({ brokers }), yield* Effect.context<never>())
    const cluster = open(5000, 0)
    yield* Effect.promise(async () => {
      const coordinator = await cluster.coordinator(groupId)
      const { memberId } = controlOf(session)
      if (session.settings.groupProtocol !== "consumer") await coordinator.leaveGroup({ groupId, memberId })
      else {
        const { instanceId, rebalanceTimeout } = session.settings
        const leave = { memberEpoch: -1, instanceId, rebalanceTimeout, topics: [], owned: [] }
        await coordinator.consumerGroupHeartbeat!({ groupId, memberId, ...leave })
      }
    }).pipe(Effect.ensuring(Effect.sync(() => cluster.close())))
  })

/** Cuts every connection that the session has; `socketsOf` knows where they are. */
export const breakConnections = (
  session: Session,
  socketsOf: (
    broker: Broker
  ) => ReadonlyArray<{ readonly destroyed: boolean; readonly destroy: (error: Error) => void }>
): Effect.Effect<void> =>
  Effect.sync(() => {
    for (const broker of controlOf(session).brokers) {
      for (const socket of socketsOf(broker)) if (!socket.destroyed) socket.destroy(new Error("cut by the test"))
    }
  })
