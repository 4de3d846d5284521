// Builds src/ into the Python package. `npm ci && npm run build`; what is built is committed.
import { build } from "esbuild";
import { copyFile, mkdir, readFile } from "node:fs/promises";

const out = "../src/isosphere/explore/static";

// The map draws by WebGPU, and by WebGL where there is none: to fall back is no error.
const quietly = {
  name: "quietly",
  setup(build) {
    build.onLoad({ filter: /embedding-atlas\/dist\/chunk-.*\.js$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      return { contents: text.replace(/console\.error\("Could not (get|request) WebGPU/g, 'console.info("Could not $1 WebGPU') };
    });
  },
};

await mkdir(out, { recursive: true });
const result = await build({
  entryPoints: { app: "src/main.ts" },
  outdir: out,
  bundle: true,
  format: "iife", // a module could not be loaded from a folder of files
  target: "es2022",
  minify: true,
  legalComments: "inline",
  alias: {
    "embedding-atlas": "./node_modules/embedding-atlas/dist/component.js", // the map alone
    "@uwdata/mosaic-core": "./src/mosaic.ts",
    "@uwdata/mosaic-sql": "./src/mosaic.ts",
  },
  define: { "import.meta.url": '"about:blank"' }, // of a worker that places labels: these are placed here
  plugins: [quietly],
  metafile: true,
});
for (const name of ["index.html", "app.css", "LICENSES.txt"]) await copyFile(`src/${name}`, `${out}/${name}`);
for (const [name, { bytes }] of Object.entries(result.metafile.outputs)) console.log(name, bytes);
