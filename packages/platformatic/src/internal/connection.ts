/**
 * One connection of @platformatic/kafka: its `Connection` (TCP, TLS, SASL, requests by number) and the versions that the broker has.
 * Nothing above it is used: its `Consumer` sends a commit again under another generation, its stream cannot pause a partition and
 * lets records of aborted transactions through, and its pool and its retries would be a second policy beside that of the driver.
 *
 * What is minded here:
 * - It has one time limit for all requests of a connection, and a JoinGroup takes as long as a rebalance: each request has its own
 *   here. Who gives up closes the connection, so that no late answer can be taken for another one.
 * - It authenticates anew by a timer, whatever else is sent meanwhile; a broker answers that with ILLEGAL_SASL_STATE and closes. What
 *   comes in between waits here.
 * - Its parsers throw an answer that has an error code in it. The answer is in the error.
 * - An error that nobody listens to would end the process.
 * - A connection that is only destroyed keeps the timer of its next authentication, and with it the process.
 * - Bytes that are no answer (a size of 0 to 3, or below it, and less behind it than the number of an answer) make it throw into the
 *   socket, where nobody catches: the process ends. An answer that comes in pieces does not, wherever it is cut.
 */
import {
  apiVersionsV0,
  Connection,
  ConnectionStatuses,
  type ConnectionOptions,
  protocolAPIsById,
  type Reader,
  ResponseError,
  TimeoutError,
  Writer
} from "@platformatic/kafka"
import * as net from "node:net"
import * as tls from "node:tls"
import { versionIn } from "@concurrent-kafka/driver/Protocol"
import type { Address } from "@concurrent-kafka/driver/Broker"

/** Requests and answers of one version, as the library has them. */
export interface Codec<Arguments extends ReadonlyArray<unknown>, Answer> {
  readonly createRequest: (...args: Arguments) => Writer
  readonly parseResponse: (correlationId: number, apiKey: number, apiVersion: number, reader: Reader) => Answer
  readonly api: { readonly key: number; readonly version: number }
}

interface Versions {
  readonly minVersion: number
  readonly maxVersion: number
}

interface Asking {
  /** milliseconds */
  readonly timeout?: number | undefined
  /** There are tagged fields in the headers; the library does not say of which versions. */
  readonly tagged?: boolean | undefined
}

/** as long as a timer can be */
const never = 0x7fffffff

export interface LinkSettings {
  readonly clientId: string
  readonly options: ConnectionOptions
  /** milliseconds that a request may take if it says nothing else */
  readonly requestTimeout: number
}

export class Link {
  readonly #connection: Connection
  readonly #address: Address
  readonly #requestTimeout: number
  #versions: ReadonlyMap<number, Versions> = new Map()
  #connecting: Promise<void> | undefined
  #destroyed = false
  #authenticating: Promise<void> | undefined

  constructor(address: Address, settings: LinkSettings) {
    this.#address = address
    this.#requestTimeout = settings.requestTimeout
    // more than anybody has under way: what would wait in it would wait without its time limit being seen
    this.#connection = new Connection(settings.clientId, {
      ...settings.options,
      // a certificate can be chosen by the name, which an address is not
      tlsServerName: settings.options.tls !== undefined && net.isIP(address.host) === 0,
      requestTimeout: never,
      maxInflights: 1000
    })
    this.#connection.on("error", () => undefined)
  }

  get socket(): Connection["socket"] | undefined {
    return this.#connection.socket
  }

  /** While it authenticates anew it is connected, too: what is sent then is sent after it. */
  isConnected(): boolean {
    return this.#versions.size > 0 && !this.#destroyed && (this.socket?.writable ?? false)
  }

  /** Once; who asks again gets what came of it. */
  connect(): Promise<void> {
    return (this.#connecting ??= this.#connect())
  }

  async #connect(): Promise<void> {
    if (this.#destroyed) throw new Error("the connection was given up")
    const { host, port } = this.#address
    const connected = this.#connection.connect(host, port)
    this.#guard()
    await connected
    this.socket?.setKeepAlive(true, 60_000)
    const { apiKeys } = await this.ask(apiVersionsV0, ["", ""])
    this.#versions = new Map(apiKeys.map((api) => [api.apiKey, api]))
  }

  /**
   * What reads the answers may throw: then the connection is broken. It listens from the moment the socket is connected, before anything is
   * sent, and this is asked right behind it, so that no byte comes in between.
   */
  #guard(): void {
    const { socket } = this
    socket?.once(socket instanceof tls.TLSSocket ? "secureConnect" : "connect", () => {
      const readers = socket.listeners("data")
      socket.removeAllListeners("data")
      socket.on("data", (bytes) => {
        try {
          for (const read of readers) Reflect.apply(read, socket, [bytes])
        } catch {
          socket.destroy(new Error("the broker sent what is no answer"))
        }
      })
    })
  }

  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    // it clears its timer and tells who waits for it to be ready; the socket would otherwise be closed when all is written
    this.#connection.close(() => undefined)
    this.socket?.destroy()
  }

  versions(apiKey: number): Versions | undefined {
    return this.#versions.get(apiKey)
  }

  /** The answer, also when there are error codes in it. */
  async ask<Arguments extends ReadonlyArray<unknown>, Answer>(
    { api: { key, version }, createRequest, parseResponse }: Codec<Arguments, Answer>,
    args: Arguments,
    { tagged = false, timeout }: Asking = {}
  ): Promise<Answer> {
    if (key !== apiVersionsV0.api.key)
      versionIn(this.versions(key), { name: protocolAPIsById[key] ?? `request ${key}`, min: version, max: version })
    const parse = (correlationId: number, apiKey: number, apiVersion: number, reader: Reader): Answer => {
      try {
        return parseResponse(correlationId, apiKey, apiVersion, reader)
      } catch (error) {
        if (error instanceof ResponseError && error["response"] !== undefined) return error["response"] as Answer
        throw error
      }
    }
    return this.#send(key, version, () => createRequest(...args), parse, timeout, tagged)
  }

  /** Bytes for bytes. */
  exchange<A>(
    apiKey: number,
    apiVersion: number,
    body: () => Writer,
    decode: (answer: Buffer) => A,
    timeout?: number
  ): Promise<A> {
    return this.#send(apiKey, apiVersion, body, (_id, _key, _version, reader) => decode(reader.buffer.buffer), timeout)
  }

  /** `undefined` unless it authenticates anew just now; then, when it has, or has failed. */
  #authenticated(): Promise<void> | undefined {
    const connection = this.#connection
    if (connection.status !== ConnectionStatuses.REAUTHENTICATING) return undefined
    return (this.#authenticating ??= new Promise((resolve) => {
      const end = () => {
        this.#authenticating = undefined
        for (const event of ["connect", "error", "close"] as const) connection.off(event, end)
        resolve()
      }
      for (const event of ["connect", "error", "close"] as const) connection.on(event, end)
    }))
  }

  #send<A>(
    apiKey: number,
    apiVersion: number,
    body: () => Writer,
    parse: Codec<never, A>["parseResponse"],
    timeout = this.#requestTimeout,
    tagged = false
  ): Promise<A> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new TimeoutError(`no answer within ${timeout} ms`))
        this.destroy()
      }, timeout)
      const send = () =>
        this.#connection.send<A>(apiKey, apiVersion, body, parse, tagged, tagged, (error, answer) => {
          clearTimeout(timer)
          if (error) reject(error)
          else resolve(answer as A)
        })
      const authenticated = this.#authenticated()
      if (authenticated === undefined) send()
      else void authenticated.then(send)
    })
  }
}

/** A body that is bytes already. */
export const bytes = (body: Buffer) => (): Writer => Writer.create().append(body)
