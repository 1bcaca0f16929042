/** What must not be seen anywhere, and how it is looked for. */

export const markers = {
  key: "Kq7-key-of-the-record",
  value: "Vx3-value-of-the-record",
  headerName: "Nz5-name-of-the-header",
  header: "Hw9-header-of-the-record",
  username: "Uj4-name-of-the-user",
  password: "Pf8-password-of-the-user",
  token: "Tm6-token-of-the-user",
  certificateKey: "Cg2-key-of-the-certificate",
  pageToken: "Lp6-token-of-the-live-page"
} as const

export type Marker = keyof typeof markers

/** also of what is cut */
const telling = 11

const escaped = (text: string): string => text.replace(/[$()*+.?[\\\]^{|}]/g, "\\$&")

/** As text, in hexadecimal digits (a Buffer is printed so), in decimal numbers (an array of bytes), in base64. */
const formsOf = (marker: string): RegExp => {
  const bytes = Buffer.from(marker.slice(0, telling))
  const base64 = [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString("base64")
      .replace(/=+$/, "")
    // what also depends on its neighbours
    return escaped(text.slice(shift === 0 ? 0 : shift + 1, -1))
  })
  return new RegExp(
    [
      escaped(marker.slice(0, telling)),
      escaped(encodeURIComponent(marker).slice(0, telling)),
      [...bytes].map((byte) => byte.toString(16)).join("[\\s,:]?"),
      [...bytes].join(`(?:[^0-9]{1,12}|,\\s*"\\d+":\\s*)`),
      ...base64
    ].join("|"),
    "i"
  )
}

const forms = (Object.keys(markers) as ReadonlyArray<Marker>).map((name) => [name, formsOf(markers[name])] as const)

/** Which of them are in the text. */
export const found = (text: string): ReadonlyArray<Marker> =>
  forms.filter(([, form]) => form.test(text)).map(([name]) => name)
