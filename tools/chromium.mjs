// Unpack the Chromium of the @sparticuz/chromium package, for the tests of pages, to node_modules/.chromium.
//
//     node tools/chromium.mjs
//
// The package has one build, for Linux on x86-64, compressed; on other machines this does nothing, and the tests look
// for a Chromium or Chrome that is installed.
import { spawnSync } from "node:child_process";
import { createReadStream, createWriteStream, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { createBrotliDecompress } from "node:zlib";

const modules = fileURLToPath(new URL("../node_modules/", import.meta.url));
const packed = join(modules, "@sparticuz", "chromium", "bin");
const place = join(modules, ".chromium");

async function decompress(name, mode) {
  const target = join(place, name);
  await pipeline(
    createReadStream(join(packed, `${name}.br`)),
    createBrotliDecompress({ chunkSize: 2 ** 21 }),
    createWriteStream(target, { mode }),
  );
  return target;
}

if (process.platform === "linux" && process.arch === "x64") {
  mkdirSync(place, { recursive: true });
  await decompress("chromium", 0o755);
  // The libraries that Chromium needs and a small machine lacks, and drawing without a graphics card.
  for (const archive of ["al2023.tar", "swiftshader.tar", "fonts.tar"]) {
    const file = await decompress(archive, 0o644);
    const { status, stderr } = spawnSync("tar", ["-xf", file, "-C", place], { encoding: "utf8" });
    if (status !== 0) throw new Error(`tar: ${stderr}`);
    rmSync(file);
  }
}
