import { options } from "../../driver/test/suites/options.ts"
import { client } from "./client.ts"

options(client)
