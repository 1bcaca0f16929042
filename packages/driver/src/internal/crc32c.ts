/** CRC-32C (Castagnoli), the checksum of record batches. Source: RFC 3720, appendix B.4. */

const polynomial = 0x82f63b78

const table = Int32Array.from({ length: 256 }, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? (n >>> 1) ^ polynomial : n >>> 1
  return n
})

/** Of the bytes from `start` to the end. */
export const crc32c = (bytes: Uint8Array, start = 0): number => {
  let crc = -1
  for (let i = start; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 0xff]!
  return (crc ^ -1) >>> 0
}
