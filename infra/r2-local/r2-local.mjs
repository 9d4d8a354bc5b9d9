// R2 as Cloudflare's own emulator has it, on http://127.0.0.1:$PORT/cdn-cgi/local/r2/s3, kept in $R2_DIR.
// Prints one line when it answers; ends with its parent (stdin closes), on SIGTERM and on SIGINT.
import { Miniflare } from "miniflare";

const { PORT, R2_DIR, R2_BUCKET, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY } = process.env;

const miniflare = new Miniflare({
  modules: true,
  script: `export default { fetch() { return new Response("ok") } }`,
  compatibilityDate: "2026-04-01",
  host: "127.0.0.1",
  port: Number(PORT),
  cf: false, // Else it fetches request metadata from the network.
  r2Persist: R2_DIR,
  r2Buckets: {
    BUCKET: {
      id: R2_BUCKET,
      s3Credentials: { accessKeyId: R2_ACCESS_KEY_ID, secretAccessKey: R2_SECRET_ACCESS_KEY },
    },
  },
});

let stopping;
const stop = () => (stopping ??= miniflare.dispose().then(() => process.exit(0)));
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, stop);
process.stdin.on("end", stop).resume();

await miniflare.ready;
console.log("ready");
