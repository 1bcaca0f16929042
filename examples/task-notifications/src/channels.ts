/** Ways out of the service: e-mail over SMTP, and text messages, of which there is only a stub that writes them into the log. */
import { Context, Effect, Layer, Schema } from "effect"
import { createTransport } from "nodemailer"
import { Settings } from "./settings.ts"

export interface Message {
  readonly to: string
  readonly title: string
  readonly text: string
  /** The same for the same message, however often it is sent: so that a mail server, or who reads, knows a repetition. */
  readonly id: string
}

export class NotDelivered extends Schema.TaggedError<NotDelivered>()("NotDelivered", {
  channel: Schema.String,
  /** Whether another attempt may succeed. */
  isRetryable: Schema.Boolean,
  cause: Schema.Defect()
}) {
  override get message() {
    return `the ${this.channel} was not taken: ${String(this.cause)}`
  }
}

interface Sender {
  readonly send: (message: Message) => Effect.Effect<void, NotDelivered>
}

/**
 * A mail server that answers 5xx to the addresses or to the message has refused this message. With everything else it may take it later,
 * also when it does not let us in: a password is mended, and then the message goes out. 530 says that, whatever it answers.
 */
const isRefusal = (cause: unknown): boolean =>
  typeof cause === "object" &&
  cause !== null &&
  "code" in cause &&
  (cause.code === "EENVELOPE" || cause.code === "EMESSAGE") &&
  "responseCode" in cause &&
  typeof cause.responseCode === "number" &&
  cause.responseCode >= 500 &&
  cause.responseCode !== 530

/**
 * Of the one connection, which is kept: many servers let a client wait before they greet it.
 *
 * A server that has the message and does not answer yet may have taken it: whoever gives up then and tries again makes a copy. So it has
 * the ten minutes of RFC 5321 (4.5.3.2.6), and a consumer that ends does not wait for it: see `interruptGrace` in `notifications.ts`.
 * A connection that breaks off then is one failed attempt: the pool repeats by itself only what no byte of has gone out.
 */
const smtp = {
  pool: true,
  maxConnections: 1,
  connectionTimeout: 5_000,
  greetingTimeout: 10_000,
  socketTimeout: 600_000
} as const

export class Email extends Context.Service<Email, Sender>()("task-notifications/Email") {
  static readonly layer = Layer.effect(
    Email,
    Effect.gen(function* () {
      const { mail } = yield* Settings
      const transport = yield* Effect.acquireRelease(
        Effect.sync(() => createTransport({ ...smtp, url: mail.url })),
        (transport) => Effect.sync(() => transport.close())
      )
      return Email.of({
        send: ({ id, text, title, to }) =>
          Effect.tryPromise({
            try: () =>
              transport.sendMail({
                from: `Tasks <no-reply@${mail.domain}>`,
                to: `${to}@${mail.domain}`,
                subject: title,
                text,
                messageId: `<${id}@${mail.domain}>`
              }),
            catch: (cause) => new NotDelivered({ channel: "e-mail", isRetryable: !isRefusal(cause), cause })
          })
      })
    })
  )
}

/** Whoever has a provider for text messages writes a layer beside this one. */
export class Sms extends Context.Service<Sms, Sender>()("task-notifications/Sms") {
  static readonly layerStub = Layer.succeed(Sms, {
    send: ({ title, to }) => Effect.logInfo(`a text message to ${to} would be sent here: ${title}`)
  })
}
