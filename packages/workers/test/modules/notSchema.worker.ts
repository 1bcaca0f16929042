export const handler = () => 1
export const error = { not: "a schema" }
