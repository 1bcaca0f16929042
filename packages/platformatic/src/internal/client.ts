/** From settings to connections of @platformatic/kafka. */
import { type ClientSettings, Cluster, type OpenCluster } from "@concurrent-kafka/driver/Driver"
import { type ConnectionOptions, SASLMechanisms } from "@platformatic/kafka"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { makeConnector } from "./broker.ts"

const longestConnect = 5000

export const openClient = (settings: ClientSettings, context: Context.Context<never>): OpenCluster => {
  const { clientId, ssl } = settings
  const sasl = saslOf(settings, context)
  const options: ConnectionOptions = {
    connectTimeout: Math.min(longestConnect, settings.connectTimeout),
    ...(ssl === false ? {} : { tls: ssl === true ? {} : ssl }),
    ...(sasl === undefined ? {} : { sasl })
  }
  return (requestTimeout, sessionTimeout) =>
    new Cluster(makeConnector(settings.brokers, { clientId, options, requestTimeout }, sessionTimeout + longestConnect))
}

const mechanisms = {
  plain: SASLMechanisms.PLAIN,
  "scram-sha-256": SASLMechanisms.SCRAM_SHA_256,
  "scram-sha-512": SASLMechanisms.SCRAM_SHA_512
} as const

const saslOf = ({ sasl }: ClientSettings, context: Context.Context<never>): ConnectionOptions["sasl"] => {
  if (sasl === undefined) return undefined
  if (sasl.mechanism !== "oauthbearer") {
    const { mechanism, password, username } = sasl
    return { mechanism: mechanisms[mechanism], username, password: Redacted.value(password) }
  }
  const token = Effect.map(sasl.token, Redacted.value)
  return { mechanism: SASLMechanisms.OAUTHBEARER, token: () => Effect.runPromiseWith(context)(token) }
}
