/**
 * Base64 of RFC 4648, section 4. Written with padding; read with or without it. What is no Base64 is an answer, not an exception.
 */
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
const pad = 61

const values = /* @__PURE__ */ (() => {
  const table = new Int8Array(128).fill(-1)
  for (let i = 0; i < 64; i++) table[alphabet.charCodeAt(i)] = i
  return table
})()

/** how many characters so many bytes become */
export const base64Length = (bytes: number): number => 4 * Math.ceil(bytes / 3)

/** how many bytes fit into so many characters */
export const base64Capacity = (characters: number): number => 3 * Math.floor(characters / 4)

export const toBase64 = (bytes: Uint8Array): string => {
  let text = ""
  for (let i = 0; i < bytes.length; i += 3) {
    const rest = bytes.length - i
    const three = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0)
    text += alphabet[three >> 18]! + alphabet[(three >> 12) & 63]!
    text += rest > 1 ? alphabet[(three >> 6) & 63]! : "="
    text += rest > 2 ? alphabet[three & 63]! : "="
  }
  return text
}

export const fromBase64 = (text: string): Uint8Array | undefined => {
  let end = text.length
  while (end > 0 && text.length - end < 2 && text.charCodeAt(end - 1) === pad) end--
  // padded as it should be, or not at all
  if (end < text.length ? text.length % 4 !== 0 : end % 4 === 1) return undefined
  const bytes = new Uint8Array((end * 3) >> 2)
  let at = 0
  let bits = 0
  let held = 0
  for (let i = 0; i < end; i++) {
    const value = values[text.charCodeAt(i)] ?? -1
    if (value < 0) return undefined
    held = ((held << 6) | value) & 0xffff
    bits += 6
    if (bits >= 8) {
      bits -= 8
      bytes[at++] = held >> bits
    }
  }
  return bytes
}
