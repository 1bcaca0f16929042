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

/** A mail server that answers 5xx has refused this message; with everything else it may take it later. */
const isRefusal = (cause: unknown): boolean =>
  typeof cause === "object" &&
  cause !== null &&
  "responseCode" in cause &&
  typeof cause.responseCode === "number" &&
  cause.responseCode >= 500

/** Of the one connection, which is kept: many servers let a client wait before they greet it. Shorter than a consumer may take to end: a send is not cut in the middle. */
const smtpTimeouts = { connectionTimeout: 2_000, greetingTimeout: 2_000, socketTimeout: 3_000 }

export class Email extends Context.Service<Email, Sender>()("task-notifications/Email") {
  static readonly layer = Layer.effect(
    Email,
    Effect.gen(function* () {
      const { mail } = yield* Settings
      const transport = yield* Effect.acquireRelease(
        Effect.sync(() => createTransport({ pool: true, maxConnections: 1, url: mail.url, ...smtpTimeouts })),
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
