import { security } from "../../driver/test/suites/security.ts"
import { client } from "./client.ts"

security(client)
