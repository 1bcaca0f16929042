/** Addresses of brokers as people write them. A host with colons in it, which is an IPv6 address, stands in brackets. */
import * as net from "node:net"
import type { Address } from "../Broker.ts"

/** What is accepted. */
export const expected =
  "host:port with a host name, an IPv4 address or an IPv6 address in brackets, and a port of 1 to 65535"

/** `undefined` where it is none. */
export const parseAddress = (text: string): Address | undefined => {
  const [, literal, name, digits] = /^(?:\[([^\]]*)\]|([^:\s/@[\]]+)):(\d{1,5})$/.exec(text) ?? []
  const host = literal ?? name
  const port = Number(digits)
  if (host === undefined || port < 1 || port > 65_535) return undefined
  return literal === undefined || net.isIPv6(literal) ? { host, port } : undefined
}

/** The other way round. */
export const addressText = ({ host, port }: Address): string => `${host.includes(":") ? `[${host}]` : host}:${port}`
