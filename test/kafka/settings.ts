/** The settings of one broker, as text of a `server.properties`. Pure. */

export type Listener = "plain" | "controller" | "proxied" | "sasl" | "tls" | "saslTls"

export interface NodePorts {
  readonly id: number
  readonly folder: string
  readonly ports: Readonly<Partial<Record<Listener, number>>>
  /** Where the proxy in front of the `proxied` listener listens: this is what the broker tells its clients. */
  readonly proxyPort: number | undefined
}

export interface Certificate {
  readonly keystore: string
  readonly password: string
}

export const username = "app"
export const password = "app-secret"
export const mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] as const

const protocols: Readonly<Record<Listener, string>> = {
  plain: "PLAINTEXT",
  controller: "PLAINTEXT",
  proxied: "PLAINTEXT",
  sasl: "SASL_PLAINTEXT",
  tls: "SSL",
  saslTls: "SASL_SSL"
}

const address = (port: number) => `127.0.0.1:${port}`

const jaas = (mechanism: (typeof mechanisms)[number]) => {
  switch (mechanism) {
    case "PLAIN":
      return `org.apache.kafka.common.security.plain.PlainLoginModule required user_${username}="${password}";`
    case "SCRAM-SHA-256":
    case "SCRAM-SHA-512":
      return "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    case "OAUTHBEARER":
      // without a key this is Kafka's unsecured handler: it takes any unsigned token that has a subject and is not expired
      return "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
  }
}

/** What the format step is given, so that the SCRAM user is there when the broker starts. */
export const scramUsers = mechanisms
  .filter((mechanism) => mechanism.startsWith("SCRAM"))
  .map((mechanism) => `${mechanism}=[name=${username},password=${password}]`)

/** What a node writes to its log when it serves its clients. */
export const readyText = "Kafka Server started"

/** What has nothing to do with addresses. */
export const common = (nodes: number): Readonly<Record<string, string>> => {
  const replicas = String(nodes)
  const inSync = nodes === 1 ? "1" : "2"
  const partitions = nodes === 1 ? "1" : "5"
  return {
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    "offsets.topic.replication.factor": replicas,
    "offsets.topic.num.partitions": partitions,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.state.log.num.partitions": partitions,
    // tests wait for none of what protects a large cluster: the first member of a group need not wait for a second one,
    // a member may be declared dead after a second, and a dead broker is noticed soon
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    // in the consumer protocol both are the broker's to say, 5 s and 45 s by default
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "4194304",
    // what can be compacted is, without 15 s of rest before it
    "log.cleaner.backoff.ms": "250"
  }
}

export interface ClusterSettings {
  /** The address on which nodes listen to their clients. */
  readonly listen: string
  readonly certificate: Certificate | undefined
  readonly overrides: Readonly<Record<string, string>>
}

export const serverProperties = (
  node: NodePorts,
  cluster: ReadonlyArray<NodePorts>,
  { certificate, listen, overrides }: ClusterSettings
): string => {
  const listeners = Object.entries(node.ports) as Array<[Listener, number]>
  const properties: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": String(node.id),
    "controller.quorum.voters": cluster.map(({ id, ports }) => `${id}@${address(ports.controller ?? 0)}`).join(","),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    listeners: listeners
      .map(([name, port]) => `${name.toUpperCase()}://${name === "controller" ? address(port) : `${listen}:${port}`}`)
      .join(","),
    "advertised.listeners": listeners
      .filter(([name]) => name !== "controller")
      .map(([name, port]) => {
        const told = name === "proxied" ? (node.proxyPort ?? port) : port
        return `${name.toUpperCase()}://${address(told)}`
      })
      .join(","),
    "listener.security.protocol.map": listeners.map(([name]) => `${name.toUpperCase()}:${protocols[name]}`).join(","),
    "log.dirs": node.folder,
    ...common(cluster.length)
  }
  for (const name of ["sasl", "saslTls"] as const) {
    if (node.ports[name] === undefined) continue
    properties["sasl.enabled.mechanisms"] = mechanisms.join(",")
    for (const mechanism of mechanisms) {
      const prefix = `listener.name.${name.toLowerCase()}.${mechanism.toLowerCase()}`
      properties[`${prefix}.sasl.jaas.config`] = jaas(mechanism)
    }
  }
  if (certificate !== undefined) {
    for (const name of ["tls", "saslTls"] as const) {
      if (node.ports[name] === undefined) continue
      const prefix = `listener.name.${name.toLowerCase()}`
      properties[`${prefix}.ssl.keystore.location`] = certificate.keystore
      properties[`${prefix}.ssl.keystore.password`] = certificate.password
      properties[`${prefix}.ssl.keystore.type`] = "PKCS12"
    }
  }
  return Object.entries({ ...properties, ...overrides })
    .map(([name, value]) => `${name}=${value}\n`)
    .join("")
}

/** Where the node of such a text is reached without encryption or authentication. */
export const plainAddress = (text: string): string | undefined =>
  /^advertised\.listeners=(?:.*,)?PLAIN:\/\/([^,\n]+)/m.exec(text)?.[1]

/** A token that Kafka's unsecured OAUTHBEARER handler takes: not signed, valid for an hour. */
export const unsecuredToken = (subject: string = username, now: number = Date.now()): string => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const seconds = Math.floor(now / 1000)
  return `${part({ alg: "none" })}.${part({ sub: subject, iat: seconds, exp: seconds + 3600 })}.`
}
