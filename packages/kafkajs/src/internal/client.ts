/** From settings to the parts of kafkajs: one cluster a session, an admin or a probe. */
import * as net from "node:net"
import * as tls from "node:tls"
import { addressText, type ClientSettings, Cluster, type OpenCluster } from "@concurrent-kafka/driver/Driver"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { KafkaConfig, SASLOptions } from "kafkajs"
import { registerZstd } from "./codecs.ts"
import { makeConnector } from "./connector.ts"
import { classify } from "./kafkaJsErrors.ts"
import { logging } from "./logger.ts"
import { openParts } from "./wire.ts"

const longestConnect = 5000

export const openClient = (settings: ClientSettings, context: Context.Context<never>): OpenCluster => {
  registerZstd()
  const sasl = saslOf(settings, context)
  const config: KafkaConfig = {
    // looked at, and not used: it would split them at their first colon
    brokers: settings.brokers.map(addressText),
    clientId: settings.clientId,
    connectionTimeout: Math.min(longestConnect, settings.connectTimeout),
    authenticationTimeout: longestConnect,
    ssl: settings.ssl as boolean,
    // the loops of this driver try again; inside of kafkajs a second policy would only hide it from them
    retry: { retries: 0 },
    socketFactory,
    ...(logging(context) as Pick<KafkaConfig, "logCreator" | "logLevel">),
    ...(sasl === undefined ? {} : { sasl })
  }
  return (requestTimeout, sessionTimeout) => {
    try {
      return new Cluster(
        makeConnector(settings.brokers, openParts({ ...config, requestTimeout }), sessionTimeout + longestConnect)
      )
    } catch (error) {
      throw classify(error, "open kafkajs")
    }
  }
}

const saslOf = (settings: ClientSettings, context: Context.Context<never>): SASLOptions | undefined => {
  const { sasl } = settings
  if (sasl === undefined) return undefined
  if (sasl.mechanism !== "oauthbearer") {
    return { mechanism: sasl.mechanism as "plain", username: sasl.username, password: Redacted.value(sasl.password) }
  }
  const token = Effect.map(sasl.token, (value) => ({ value: Redacted.value(value) }))
  return { mechanism: "oauthbearer", oauthBearerProvider: () => Effect.runPromiseWith(context)(token) }
}

/** As kafkajs makes them, and without Nagle's delay: requests are small and waited for. */
const socketFactory: NonNullable<KafkaConfig["socketFactory"]> = ({ host, onConnect, port, ssl }) => {
  const socket = ssl
    ? tls.connect({ host, port, ...(net.isIP(host) ? {} : { servername: host }), ...ssl }, onConnect)
    : net.connect({ host, port }, onConnect)
  socket.setKeepAlive(true, 60_000)
  socket.setNoDelay(true)
  return socket
}
