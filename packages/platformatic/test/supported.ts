const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)

/** @platformatic/kafka needs Node 22.22: on an older one what stands on it is reported as skipped. */
export const isSupported = major > 22 || (major === 22 && minor >= 22)
