import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { Socket } from "node:net"
import { SMTPServer, type SMTPServerOptions } from "smtp-server"
import { Email } from "../src/channels.ts"
import { settings } from "./world.ts"

/** A mail server that does what the test says, and the service's way to it. */
const sending = Effect.fnUntraced(function* (options: SMTPServerOptions, login = "") {
  const server = yield* Effect.acquireRelease(
    Effect.callback<SMTPServer>((resume) => {
      const server: SMTPServer = new SMTPServer({
        disabledCommands: ["STARTTLS"],
        disableReverseLookup: true,
        allowInsecureAuth: true,
        authOptional: true,
        ...options
      })
      // a connection that the test cuts
      server.on("error", () => {})
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => server.close(() => resume(Effect.void)))
  )
  const connections = new Set<Socket>()
  server.server.on("connection", (connection: Socket) => connections.add(connection))
  const address = server.server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const context = yield* Layer.build(
    Email.layer.pipe(Layer.provide(settings({ SMTP_URL: `smtp://${login}127.0.0.1:${port}` })))
  )
  const { send } = yield* Effect.provide(Email, context)
  const cut = () => connections.forEach((connection) => connection.destroy())
  return { send, cut }
})

const message = { id: "one", to: "ada", title: "a title", text: "a text" }
const refusal = (responseCode: number) => Object.assign(new Error("the test says so"), { responseCode })

describe("e-mail", () => {
  for (const [what, isRetryable, options, login] of [
    ["a wrong password", true, { onAuth: (_, __, answer) => answer(refusal(535)) }, "user:wrong@"],
    ["a missing password", true, { onMailFrom: (_, __, answer) => answer(refusal(530)) }, ""],
    ["an address that is busy", true, { onRcptTo: (_, __, answer) => answer(refusal(450)) }, ""],
    ["an address that is refused", false, { onRcptTo: (_, __, answer) => answer(refusal(550)) }, ""],
    [
      "a message that is refused",
      false,
      { onData: (stream, _, answer) => void stream.resume().once("end", () => answer(refusal(554))) },
      ""
    ]
  ] satisfies ReadonlyArray<readonly [string, boolean, SMTPServerOptions, string]>) {
    it.live(`${what} ${isRetryable ? "may be mended: another attempt may succeed" : "is refused for good"}`, () =>
      Effect.gen(function* () {
        const { send } = yield* sending(options, login)
        const error = yield* Effect.flip(send(message))
        assert.strictEqual(error.isRetryable, isRetryable, error.message)
      })
    )
  }

  it.live("a server that has the message and takes four seconds for its yes gets one copy", () => {
    let received = 0
    return Effect.gen(function* () {
      const { send } = yield* sending({
        onData: (stream, _, answer) => {
          stream.resume().once("end", () => {
            received++
            setTimeout(answer, 4_000)
          })
        }
      })
      yield* send(message)
      assert.strictEqual(received, 1)
    })
  })

  it.live("a connection that breaks off when the server has the message is one failed attempt", () => {
    let received = 0
    let cut = () => {}
    return Effect.gen(function* () {
      const server = yield* sending({
        onData: (stream) => {
          stream.resume().once("end", () => {
            received++
            cut()
          })
        }
      })
      cut = server.cut
      const error = yield* Effect.flip(server.send(message))
      assert.isTrue(error.isRetryable)
      assert.strictEqual(received, 1)
    })
  })
})
