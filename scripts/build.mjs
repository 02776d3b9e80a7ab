/** `npm run build`: dependencies, native addon and `dist/`, each where it is not fresh. */

import { BootstrapError, bootstrap, say } from "./bootstrap.mjs";

try {
  bootstrap();
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
