/** A certificate for the client of a test, made here: a broker asks for one, and Node has nothing that makes it. */
import { generateKeyPairSync, sign } from "node:crypto"

/** One value in DER. */
const der = (tag: number, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const body = Buffer.concat(parts)
  const { length } = body
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.from([tag, ...size]), body])
}

const sequence = (...parts: ReadonlyArray<Buffer>): Buffer => der(0x30, ...parts)
const identifier = (hex: string): Buffer => der(0x06, Buffer.from(hex, "hex"))
const ecdsaWithSha256 = sequence(identifier("2a8648ce3d040302"))
const named = (commonName: string): Buffer =>
  sequence(der(0x31, sequence(identifier("550403"), der(0x0c, Buffer.from(commonName)))))
const at = (ms: number): Buffer =>
  der(0x17, Buffer.from(`${new Date(ms).toISOString().replaceAll(/\D/g, "").slice(2, 14)}Z`))

/** Signed by itself (X.509 version 1), from an hour ago until a day from now; both as PEM. */
export const certificateOf = (commonName: string): { readonly cert: string; readonly key: string } => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const hour = 3_600_000
  const validity = sequence(at(Date.now() - hour), at(Date.now() + 24 * hour))
  const content = sequence(
    der(0x02, Buffer.from([1])),
    ecdsaWithSha256,
    named(commonName),
    validity,
    named(commonName),
    publicKey.export({ type: "spki", format: "der" })
  )
  const signature = der(0x03, Buffer.from([0]), sign("sha256", content, privateKey))
  const lines = sequence(content, ecdsaWithSha256, signature)
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n")
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
}
