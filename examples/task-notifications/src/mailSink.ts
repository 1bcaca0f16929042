/** An SMTP server on this machine that delivers nothing: it tells whoever started it what it was given. For the demo and the tests. */
import { Effect } from "effect"
import { SMTPServer } from "smtp-server"

export interface Mail {
  readonly to: ReadonlyArray<string>
  readonly messageId: string
  readonly subject: string
}

const header = (text: string, name: string): string =>
  new RegExp(`^${name}: *(.*)$`, "im").exec(text.replaceAll("\r\n", "\n"))?.[1]?.trim() ?? ""

/** Answers with its URL. */
export const mailSink = (received: (mail: Mail) => void, port = 0) =>
  Effect.acquireRelease(
    Effect.callback<SMTPServer>((resume) => {
      const server: SMTPServer = new SMTPServer({
        disabledCommands: ["STARTTLS", "AUTH"],
        disableReverseLookup: true,
        onData: (stream, session, answer) => {
          let text = ""
          stream.setEncoding("utf8")
          stream.on("data", (part: string) => (text += part))
          stream.once("end", () => {
            received({
              to: session.envelope.rcptTo.map(({ address }) => address),
              messageId: header(text, "Message-ID"),
              subject: header(text, "Subject")
            })
            answer()
          })
        }
      })
      // a client that is killed in the middle of a sentence
      server.on("error", () => {})
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => server.close(() => resume(Effect.void)))
  ).pipe(
    Effect.map((server) => {
      const address = server.server.address()
      return `smtp://127.0.0.1:${typeof address === "object" && address !== null ? address.port : port}`
    })
  )
