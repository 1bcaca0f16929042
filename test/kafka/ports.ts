/**
 * Free TCP ports on 127.0.0.1, picked at run time.
 *
 * They lie below the range from which systems give ports to outgoing connections. A port of that range could be taken by any
 * client while its broker restarts, and a client that keeps trying such a port can even end up connected to itself.
 *
 * Each is claimed for its scope by a file with the number of the process, so that no other test run takes it while its broker is down.
 */
import { Effect } from "effect"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

const lowest = 20_000
const highest = 32_000

const reserve = (port: number) =>
  Effect.callback<net.Server | undefined>((resume) => {
    const server = net.createServer()
    server.once("error", () => resume(Effect.succeed(undefined)))
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => resume(Effect.succeed(server)))
  })

const claims = join(tmpdir(), "concurrent-kafka-ports")
const claimOf = (port: number) => join(claims, String(port))

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && "code" in error ? String(error.code) : undefined

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // another user's
    return codeOf(error) === "EPERM"
  }
}

/**
 * Whether it is ours from now on. What a process has left that is gone is thrown away, and is free the next time. Where the folder is
 * another user's, ports are taken without a claim.
 */
const claim = (port: number): boolean => {
  try {
    mkdirSync(claims, { recursive: true })
    writeFileSync(claimOf(port), String(process.pid), { flag: "wx" })
    return true
  } catch (taken) {
    if (codeOf(taken) !== "EEXIST") return true
    try {
      if (!isAlive(Number(readFileSync(claimOf(port), "utf8")))) rmSync(claimOf(port), { force: true })
    } catch {
      // given back meanwhile
    }
    return false
  }
}

const giveBack = (port: number): void => {
  try {
    rmSync(claimOf(port), { force: true })
  } catch {
    // it was not claimed
  }
}

const release = (server: net.Server) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
  })

/** `count` different ports. All are held until the last one is found, so that none is given twice. */
export const free = Effect.fnUntraced(function* (count: number) {
  const held: Array<{ readonly port: number; readonly server: net.Server }> = []
  yield* Effect.addFinalizer(() => Effect.sync(() => held.forEach(({ port }) => giveBack(port))))
  while (held.length < count) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if (!claim(port)) continue
    const server = yield* reserve(port)
    if (server !== undefined) held.push({ port, server })
    else giveBack(port)
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
