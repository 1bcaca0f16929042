/** The client's settings: checked, and turned into what libraries want. */
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Address } from "../Broker.ts"
import type { ClientOptions } from "../ClientOptions.ts"
import { expected, parseAddress } from "./address.ts"

export interface ClientSettings {
  readonly brokers: ReadonlyArray<Address>
  readonly clientId: string
  /** milliseconds */
  readonly connectTimeout: number
  readonly waitForBroker: boolean
  /** milliseconds */
  readonly deliveryTimeout: number
  readonly ssl: boolean | { readonly ca?: string; readonly cert?: string; readonly key?: string }
  readonly sasl: ClientOptions["sasl"]
}

const refuse = (option: string, value: unknown, accepted: string): never => {
  throw new InvalidOptions({ option, value, accepted })
}

/** Without what may be a credential: what stands before an `@`, or in a URL that names no host and port. */
const shown = (broker: string): string => {
  const [, scheme, rest = ""] = /^([a-z0-9+.-]+:\/\/)?(?:.*@)?(.*)$/is.exec(broker) ?? []
  if (rest.length < broker.length - (scheme ?? "").length) return rest
  return scheme === undefined || /^[^:\s/]+(:\d{1,5})?\/?$/.test(rest) ? broker : `${scheme}...`
}

/** In milliseconds. */
const duration = (option: string, value: Duration.Input | undefined, byDefault: number, least: number): number => {
  if (value === undefined) return byDefault
  const millis = Option.getOrUndefined(Option.map(Duration.fromInput(value), Duration.toMillis))
  if (millis !== undefined && Number.isFinite(millis) && millis >= least) return millis
  return refuse(option, value, `a finite duration of at least ${least === 1 ? "1 ms" : `${least / 1000} s`}`)
}

/** Throws `InvalidOptions`. */
export const checkOptions = (options: ClientOptions): ClientSettings => {
  const { brokers, clientId, sasl, ssl, waitForBroker } = options
  if (!Array.isArray(brokers) || brokers.length === 0)
    refuse("brokers", typeof brokers === "string" ? shown(brokers) : brokers, `at least one ${expected}`)
  const addresses = brokers.map(
    (broker) =>
      (typeof broker === "string" ? parseAddress(broker) : undefined) ??
      refuse("brokers", typeof broker === "string" ? shown(broker) : broker, expected)
  )
  if (clientId !== undefined && (typeof clientId !== "string" || clientId.length === 0)) {
    refuse("clientId", clientId, "a text that is not empty")
  }
  if (typeof ssl === "object" && (ssl.cert === undefined) !== (ssl.key === undefined)) {
    refuse("ssl", "one of cert and key", "both cert and key, or none of them")
  }
  if (sasl !== undefined) checkSasl(sasl)
  return {
    brokers: addresses,
    clientId: clientId ?? "concurrent-kafka",
    connectTimeout: duration("connectTimeout", options.connectTimeout, 10_000, 1),
    waitForBroker: waitForBroker ?? false,
    deliveryTimeout: duration("deliveryTimeout", options.deliveryTimeout, 120_000, 1000),
    ssl:
      ssl === undefined || typeof ssl === "boolean"
        ? (ssl ?? false)
        : {
            ...(ssl.ca === undefined ? {} : { ca: ssl.ca }),
            ...(ssl.cert === undefined || ssl.key === undefined ? {} : { cert: ssl.cert, key: Redacted.value(ssl.key) })
          },
    sasl
  }
}

const checkSasl = (sasl: NonNullable<ClientOptions["sasl"]>): void => {
  switch (sasl.mechanism) {
    case "plain":
    case "scram-sha-256":
    case "scram-sha-512":
      if (typeof sasl.username !== "string" || sasl.username === "") {
        refuse("sasl.username", sasl.username, "a text that is not empty")
      }
      if (!Redacted.isRedacted(sasl.password))
        refuse("sasl.password", "a value that is not Redacted", "a Redacted text")
      return
    case "oauthbearer":
      return
    default:
      refuse(
        "sasl.mechanism",
        (sasl as { readonly mechanism: unknown }).mechanism,
        '"plain" or "scram-sha-256" or "scram-sha-512" or "oauthbearer"'
      )
  }
}
