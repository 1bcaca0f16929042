/**
 * Free TCP ports on 127.0.0.1, picked at run time.
 *
 * They lie below the range from which systems give ports to outgoing connections. A port of that range could be taken by any
 * client while its broker restarts, and a client that keeps trying such a port can even end up connected to itself.
 */
import { Effect } from "effect"
import * as net from "node:net"

const lowest = 20_000
const highest = 32_000

const reserve = (port: number) =>
  Effect.callback<net.Server | undefined>((resume) => {
    const server = net.createServer()
    server.once("error", () => resume(Effect.succeed(undefined)))
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => resume(Effect.succeed(server)))
  })

const release = (server: net.Server) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
  })

/** `count` different ports. All are held until the last one is found, so that none is given twice. */
export const free = Effect.fnUntraced(function* (count: number) {
  const held: Array<{ readonly port: number; readonly server: net.Server }> = []
  while (held.length < count) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    const server = yield* reserve(port)
    if (server !== undefined) held.push({ port, server })
  }
  yield* Effect.forEach(held, ({ server }) => release(server))
  return held.map(({ port }) => port)
})

/** Whether somebody listens there. */
export const accepts = (address: string) =>
  Effect.callback<boolean>((resume) => {
    const [host = "", port = "0"] = address.split(":")
    const socket = net.connect({ host, port: Number(port) })
    socket.once("error", () => resume(Effect.succeed(false)))
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
  })
