// Decodes every image of TIFFs with one release of geotiff.js.
// Usage: node read_geotiff.mjs PACKAGE FOLDER FILE...
// Writes FOLDER/NAME.NUMBER.raw, pixels with their bands together; or .txt, what it failed of.
import { readFile, writeFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [release, folder, ...files] = process.argv.slice(2);
const entry = resolve(release, "node_modules/geotiff/dist-node/geotiff.js");
const { fromArrayBuffer } = await import(pathToFileURL(entry).href);
const YCBCR = 6;

async function pixels(image) {
  const photometric = await image.fileDirectory.loadValue?.("PhotometricInterpretation")
    ?? image.fileDirectory.PhotometricInterpretation;
  // As viewers do: its JPEG decoder leaves luma and chroma alone, and readRGB makes colours.
  return photometric === YCBCR
    ? image.readRGB({ interleave: true })
    : image.readRasters({ interleave: true });
}

for (const file of files) {
  const data = await readFile(file);
  const tiff = await fromArrayBuffer(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
  const count = await tiff.getImageCount();
  for (let number = 0; number < count; number += 1) {
    const out = `${folder}/${basename(file, ".tif")}.${number}`;
    try {
      const found = await pixels(await tiff.getImage(number));
      await writeFile(`${out}.raw`, new Uint8Array(found.buffer, found.byteOffset, found.byteLength));
    } catch (error) {
      await writeFile(`${out}.txt`, String(error));
    }
  }
}
