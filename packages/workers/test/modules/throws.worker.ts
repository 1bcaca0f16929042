throw new Error("no model here")
