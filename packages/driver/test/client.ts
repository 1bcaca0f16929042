/** A client under test: what a suite needs of it, and how a test that it cannot pass, or cannot be tried here, is left out. */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { Session, SessionSettings } from "@concurrent-kafka/core/ConsumerSession"
import type { KafkaClient, KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import type { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import type * as Config from "effect/Config"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { describe, inject } from "vitest"
import type { Broker } from "../src/Broker.ts"
import type { ClientOptions } from "../src/ClientOptions.ts"
import type { Library } from "../src/Driver.ts"
import * as Instrumented from "./instrumented.ts"

declare module "vitest" {
  interface TaskMeta {
    /** Why a test is skipped; shown in the table of suites and clients. */
    skipped?: string
  }
}

/** Options of a test or of a suite: skipped for this reason, or not. */
export const skipping = (reason: string | undefined): { readonly skip?: true; readonly meta?: { skipped: string } } =>
  reason === undefined ? {} : { skip: true, meta: { skipped: reason } }

export interface Socket {
  readonly destroyed: boolean
  readonly destroy: (error: Error) => void
}

type Provided = KafkaClient | KafkaProducer

export interface Client {
  readonly library: Library
  readonly layer: (options: ClientOptions) => Layer.Layer<Provided, KafkaClientError | InvalidOptions>
  readonly layerConfig: Layer.Layer<Provided, KafkaClientError | InvalidOptions | Config.ConfigError>
  /** Those of one of its brokers. */
  readonly socketsOf: (broker: Broker) => ReadonlyArray<Socket>
  /** What a program adds to it before it can decompress all that Kafka knows. */
  readonly registerCodecs: Effect.Effect<void, never, Scope.Scope>
  /** One that it cannot decompress without that, with the name that it gives it. */
  readonly unknownCodec: readonly [codec: number, name: string]
  /** Whether the library says what it does, in log lines of its own. */
  readonly logs: boolean
  /** Where it is exported as `client`, for programs in a process of their own. */
  readonly module: string
  /** Why it has no consumer protocol (KIP-848). */
  readonly classicOnly: string | undefined
  /** Why nothing of it can be tried here. */
  readonly unsupported: string | undefined
}

export const nameOf = (client: Client): string => client.library.name

const register = (client: Client, what: string, reason: string | undefined, tests: () => void): void => {
  // oxlint-disable-next-line vitest/valid-describe-callback -- it does not know of options
  describe(`${nameOf(client)}: ${what}`, skipping(client.unsupported ?? reason), tests)
}

const noneOfItsOwn = () => (inject("own") ? undefined : "needs a Kafka of its own, and none can be started here")

/** Registers tests of a client, or reports them as skipped where it cannot run, or for this reason. */
export const suiteOf = (client: Client, what: string, tests: () => void, reason?: string): void =>
  register(client, what, reason, tests)

export type GroupProtocol = NonNullable<SessionSettings["groupProtocol"]>

/** Those that the client has. */
export const protocolsOf = ({ classicOnly }: Client): ReadonlyArray<GroupProtocol> =>
  classicOnly === undefined ? ["classic", "consumer"] : ["classic"]

/** Why a test of a suite that is run in each group protocol is left out under the consumer protocol. */
export const noGenerations =
  "of the classic protocol alone: under the other nobody can miss a generation, and what is held is not read again"

/** As `suiteOf`, for a suite that is run in each group protocol. */
export const suiteIn = (client: Client, groupProtocol: GroupProtocol, what: string, tests: () => void): void => {
  if (groupProtocol === "classic") register(client, what, undefined, tests)
  else register(client, `${what}, consumer protocol`, client.classicOnly, tests)
}

/** As `suiteOf`, for tests that need a Kafka that they may kill or configure. */
export const ownSuiteOf = (client: Client, what: string, tests: () => void, reason?: string): void => {
  register(client, what, reason ?? noneOfItsOwn(), tests)
}

/**
 * As `ownSuiteOf`, beside other such suites of its file: each waits long for brokers of its own. Its tests run one after another.
 */
export const besideOf = (client: Client, what: string, tests: () => void): void => {
  const beside = { ...skipping(client.unsupported ?? noneOfItsOwn()), concurrent: true }
  // oxlint-disable-next-line vitest/valid-describe-callback -- it does not know of options
  describe(`${nameOf(client)}: ${what}`, beside, () => {
    // oxlint-disable-next-line vitest/valid-describe-callback -- as above
    describe("one after another", { concurrent: false }, tests)
  })
}

/** The client with a hand on what its sessions say to brokers. */
export const instrumented = (client: Client, brokers: ReadonlyArray<string>): Layer.Layer<KafkaClient> =>
  Instrumented.instrumented(client.library, brokers)

export const evict = (client: Client, brokers: ReadonlyArray<string>, session: Session): Effect.Effect<void> =>
  Instrumented.evict(client.library, brokers, session)

export const breakConnections = (client: Client, session: Session): Effect.Effect<void> =>
  Instrumented.breakConnections(session, client.socketsOf)
