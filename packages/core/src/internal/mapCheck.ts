/**
 * The three bytes behind a body that say whose map it is: CRC-24 (RFC 9580, section 6.1.1) over topic, partition, base, and the
 * body itself. Two maps that differ in nothing but their bases have different checks as long as the bases are less than 2^24 apart.
 */
export const checkBytes = 3

const table = /* @__PURE__ */ (() => {
  const entries = new Int32Array(256)
  for (let i = 0; i < 256; i++) {
    let crc = i << 16
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x800000 ? 0x864cfb : 0)
    entries[i] = crc & 0xffffff
  }
  return entries
})()

/** goes on from a check, or begins one */
export const crc24 = (bytes: Uint8Array, from = 0xb704ce): number => {
  let crc = from
  for (let i = 0; i < bytes.length; i++) crc = ((crc << 8) & 0xffffff) ^ table[(crc >> 16) ^ bytes[i]!]!
  return crc
}

const utf8 = /* @__PURE__ */ new TextEncoder()

/** Of a payload: the magic of the form, uncompressed, and its body. */
export const checkOf = (topic: string, partition: number, base: bigint, payload: Uint8Array): number => {
  const name = utf8.encode(topic)
  const where = new Uint8Array(name.length + 14)
  const view = new DataView(where.buffer)
  view.setUint16(0, name.length)
  where.set(name, 2)
  view.setInt32(name.length + 2, partition)
  view.setBigInt64(name.length + 6, base)
  return crc24(payload, crc24(where))
}
