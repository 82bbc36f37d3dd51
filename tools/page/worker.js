'use strict';
// Computes, beside the page: estimates the kernels of an image and restores it, tile by tile, with onnxruntime-web.
//
// Tiles, their overlap and the halo of the estimator are those of manet_basicsr/restoration/tiling.py, so that the
// image is the one that the package makes with tiles of the same size.

/**
 * What is known of the networks.
 * @typedef {{scale: number, kernelSize: number, halo: number, sizeMultiple: number, overlap: number,
 *   floatsPerPixel: number}} Facts
 * @typedef {[number, number]} Range  Where a range of pixels begins and where it ends.
 * @typedef {{rows: Range, columns: Range}} Part
 */

/** Most bytes that a tile should take, by the networks' own estimate, which is to the safe side. Memory unknown is little. */
const TILE_BYTES = /** @type {any} */ (navigator).deviceMemory >= 8 ? 1200e6 : 600e6;
/** Most kernels along a side of what is shown of the field. */
const GRID = 64;
/** Weights of grey, BT.601. */
const LUMA = [0.299, 0.587, 0.114];

/** @type {{ort: any, facts: Facts, estimator: any, generator: any}} */
let engine;

// --- Starting -------------------------------------------------------------------------------------------------------

/**
 * Start onnxruntime and load the networks.
 * @param {{runtime: Record<string, Uint8Array>, model: Record<string, Uint8Array>, facts: Facts, device: string,
 *   threads: number}} order
 */
async function start({ runtime, model, facts, device, threads }) {
  const address = (bytes) => URL.createObjectURL(new Blob([bytes], { type: 'text/javascript' }));
  importScripts(address(runtime.program));
  const { ort } = /** @type {any} */ (self);
  ort.env.wasm.wasmPaths = { mjs: address(runtime.glue) };
  ort.env.wasm.wasmBinary = runtime.binary.buffer;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = 'error';
  const settings = { executionProviders: [device], logSeverityLevel: 3 };
  const load = (name) => ort.InferenceSession.create(model[name], settings);
  const estimator = await load('estimator');
  const generator = await load('generator');
  engine = { ort, facts, estimator, generator };
  // The first run of a device is slow, and says whether it works at all.
  await restoreView(new Float32Array(3 * 16 * 16).fill(0.5), { rows: [0, 16], columns: [0, 16] }, [16, 16]);
}

/** Seconds that a pixel that the networks see takes, measured on some. */
async function measure() {
  const side = 48, started = performance.now();
  await restoreView(new Float32Array(3 * side * side).fill(0.5), { rows: [0, side], columns: [0, side] }, [side, side]);
  return (performance.now() - started) / 1000 / side ** 2;
}

// --- Tiles ----------------------------------------------------------------------------------------------------------

/**
 * Grow a range within 0..size by so much at each end, and on to the next multiples.
 * @param {Range} range @param {number} by @param {number} size @param {number} [multiple] @returns {Range}
 */
function grow([start, stop], by, size, multiple = 1) {
  const first = Math.floor((start - by) / multiple) * multiple, last = Math.ceil((stop + by) / multiple) * multiple;
  return [Math.max(0, first), Math.min(size, last)];
}

/** @param {Part} part @param {number} by @param {number[]} size @param {number} [multiple] @returns {Part} */
const growPart = (part, by, [width, height], multiple) => ({
  rows: grow(part.rows, by, height, multiple), columns: grow(part.columns, by, width, multiple),
});
const lengthOf = ([start, stop]) => stop - start;
const areaOf = (part) => lengthOf(part.rows) * lengthOf(part.columns);

/** The largest side of a tile that memory allows; an image that can be seen as a whole is one tile. */
function tileFor(size) {
  const [width, height] = size;
  const { overlap, halo, floatsPerPixel } = engine.facts;
  const seen = Math.sqrt(TILE_BYTES / 4 / floatsPerPixel);
  return width * height <= seen ** 2 ? Math.max(width, height) : Math.max(32, Math.floor(seen - 2 * overlap - 2 * halo));
}

/**
 * Cut a side into as few pieces as can be, all as long as each other.
 * @param {number} size @param {number} most @returns {Range[]}
 */
function cut(size, most) {
  const length = Math.ceil(size / Math.ceil(size / most));
  /** @type {Range[]} */
  const pieces = [];
  for (let start = 0; start < size; start += length) pieces.push([start, Math.min(size, start + length)]);
  return pieces;
}

/** Pixels that the estimator sees for a tile: the tile, what the generator sees beside it, and the halo. */
function seenBy(tile, size) {
  const { overlap, halo, sizeMultiple } = engine.facts;
  return growPart(growPart(tile, overlap, size), halo, size, sizeMultiple);
}

// --- The networks ---------------------------------------------------------------------------------------------------

/** Copy a part of planes that lie behind each other. */
function crop(planes, sides, { rows, columns }) {
  const [height, width] = sides;
  const count = planes.length / (height * width), wide = lengthOf(columns);
  const cropped = new Float32Array(count * lengthOf(rows) * wide);
  let to = 0;
  for (let plane = 0; plane < count; plane++) {
    for (let row = rows[0]; row < rows[1]; row++, to += wide) {
      const from = (plane * height + row) * width;
      cropped.set(planes.subarray(from + columns[0], from + columns[1]), to);
    }
  }
  return cropped;
}

/** @param {Part} part @param {Part} around @returns {any} */
const within = (part, around) => ({
  rows: part.rows.map((place) => place - around.rows[0]), columns: part.columns.map((place) => place - around.columns[0]),
});

/**
 * Restore a part of an image.
 * @param {Float32Array} planes  R, G and B of what {@link seenBy} says, in [0, 1].
 * @param {Part} tile @param {number[]} size  Width and height of the image.
 * @returns {Promise<{field: Float32Array, sr: Float32Array, near: Part}>} Both for `near`, which the generator sees.
 */
async function restoreView(planes, tile, size) {
  const { ort, facts, estimator, generator } = engine;
  const seen = seenBy(tile, size), near = growPart(tile, facts.overlap, size), inside = within(near, seen);
  const sides = (part) => [lengthOf(part.rows), lengthOf(part.columns)];
  const estimated = await estimator.run({ lq: new ort.Tensor('float32', planes, [1, 3, ...sides(seen)]) });
  const field = crop(estimated.field.data, sides(seen), inside);
  estimated.field.dispose();
  const lq = crop(planes, sides(seen), inside);
  const { sr } = await generator.run({
    lq: new ort.Tensor('float32', lq, [1, 3, ...sides(near)]),
    field: new ort.Tensor('float32', field, [1, facts.kernelSize ** 2, ...sides(near)]),
  });
  const pixels = Float32Array.from(sr.data);
  sr.dispose();
  return { field, sr: pixels, near };
}

// --- The image ------------------------------------------------------------------------------------------------------

/** The RGBA bytes of a part of an image, on a paper: white, or none. */
function bytesOfPart(bitmap, part, paper = 'white') {
  const [width, height] = [lengthOf(part.columns), lengthOf(part.rows)];
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.fillStyle = paper;
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, -part.columns[0], -part.rows[0]);
  return context.getImageData(0, 0, width, height).data;
}

function planesOf(bytes) {
  const count = bytes.length / 4, planes = new Float32Array(3 * count);
  for (let pixel = 0; pixel < count; pixel++) {
    for (let channel = 0; channel < 3; channel++) planes[channel * count + pixel] = bytes[4 * pixel + channel] / 255;
  }
  return planes;
}

/** Whether an image has no colours, and whether one sees through it. */
function looksOf(bitmap) {
  const looks = { grey: true, transparent: false };
  for (let top = 0; top < bitmap.height; top += 256) {
    const part = { rows: [top, Math.min(bitmap.height, top + 256)], columns: [0, bitmap.width] };
    const bytes = bytesOfPart(bitmap, part, 'transparent');
    for (let place = 0; place < bytes.length; place += 4) {
      if (bytes[place] !== bytes[place + 1] || bytes[place] !== bytes[place + 2]) looks.grey = false;
      if (bytes[place + 3] < 255) looks.transparent = true;
    }
  }
  return looks;
}

/** The RGBA bytes of a restored tile. */
function bytesOfTile(result, tile, grey) {
  const { scale } = engine.facts, { sr, near } = result, inside = within(tile, near);
  const wide = scale * lengthOf(near.columns), plane = sr.length / 3;
  const width = scale * lengthOf(tile.columns), height = scale * lengthOf(tile.rows);
  const bytes = new Uint8ClampedArray(4 * width * height);  // which rounds and clips
  const shown = new Float32Array(3);
  for (let y = 0, to = 0; y < height; y++) {
    let from = (scale * inside.rows[0] + y) * wide + scale * inside.columns[0];
    for (let x = 0; x < width; x++, from++, to += 4) {
      for (let channel = 0; channel < 3; channel++) {
        const value = sr[channel * plane + from];
        if (!Number.isFinite(value)) throw new Error('the restored image is not finite; try without the graphics card');
        shown[channel] = Math.min(1, Math.max(0, value));
      }
      if (grey) shown.fill(LUMA[0] * shown[0] + LUMA[1] * shown[1] + LUMA[2] * shown[2]);
      for (let channel = 0; channel < 3; channel++) bytes[to + channel] = 255 * shown[channel];
      bytes[to + 3] = 255;
    }
  }
  return bytes;
}

// --- The kernels that are shown -------------------------------------------------------------------------------------

/** A grid of kernels, each for a square of the image and from its middle. */
function emptyField(size) {
  const [width, height] = size;
  const stride = Math.ceil(Math.max(width, height) / GRID), taps = engine.facts.kernelSize ** 2;
  const [columns, rows] = [Math.ceil(width / stride), Math.ceil(height / stride)];
  return { kernelSize: engine.facts.kernelSize, stride, rows, columns, kernels: new Float32Array(rows * columns * taps) };
}

/** Take the kernels of a tile into the grid. */
function keepKernels(field, result, tile, size) {
  const [width, height] = size;
  const { near } = result, plane = areaOf(near), taps = field.kernelSize ** 2, half = field.stride >> 1;
  const isIn = (place, [start, stop]) => place >= start && place < stop;
  for (let row = 0; row < field.rows; row++) {
    const y = Math.min(height - 1, row * field.stride + half);
    if (!isIn(y, tile.rows)) continue;
    for (let column = 0; column < field.columns; column++) {
      const x = Math.min(width - 1, column * field.stride + half);
      if (!isIn(x, tile.columns)) continue;
      const from = (y - near.rows[0]) * lengthOf(near.columns) + x - near.columns[0];
      const to = (row * field.columns + column) * taps;
      for (let tap = 0; tap < taps; tap++) field.kernels[to + tap] = result.field[tap * plane + from];
    }
  }
}

// --- PNG ------------------------------------------------------------------------------------------------------------

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let code = byte;
  for (let bit = 0; bit < 8; bit++) code = code & 1 ? (code >>> 1) ^ 0xedb88320 : code >>> 1;
  return code;
});

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12), view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(content, 8);
  let code = 0xffffffff;
  for (let place = 4; place < bytes.length - 4; place++) code = CRC[(code ^ bytes[place]) & 255] ^ (code >>> 8);
  view.setUint32(bytes.length - 4, ~code >>> 0);
  return bytes;
}

/** A PNG file that is written row by row, so that the restored image is never in memory as a whole. */
class PngWriter {
  constructor(width, height) {
    this.width = width;
    const header = new Uint8Array(13), view = new DataView(header.buffer);
    view.setUint32(0, width);
    view.setUint32(4, height);
    header.set([8, 2], 8);  // 8 bit, RGB
    const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
    /** @type {BlobPart[]} */
    this.parts = [signature, chunk('IHDR', header), chunk('sRGB', new Uint8Array(1))];
    this.above = new Uint8Array(3 * width);
    const deflate = new CompressionStream('deflate');
    this.writer = deflate.writable.getWriter();
    this.finished = this.collect(deflate.readable.getReader());
  }

  async collect(reader) {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      // As a Blob the browser may keep it on the disk.
      this.parts.push(new Blob([chunk('IDAT', read.value)]));
    }
  }

  /** Write rows of RGB bytes, each as its difference from what Paeth's rule foretells. */
  async write(rows) {
    const length = 3 * this.width, count = rows.length / length;
    const filtered = new Uint8Array(count * (length + 1));
    let above = this.above;
    for (let row = 0, to = 0; row < count; row++) {
      const bytes = rows.subarray(row * length, (row + 1) * length);
      filtered[to++] = 4;
      for (let place = 0; place < length; place++) {
        const left = place < 3 ? 0 : bytes[place - 3], corner = place < 3 ? 0 : above[place - 3], up = above[place];
        const byLeft = Math.abs(up - corner), byUp = Math.abs(left - corner), byCorner = Math.abs(left + up - 2 * corner);
        const foretold = byLeft <= byUp && byLeft <= byCorner ? left : byUp <= byCorner ? up : corner;
        filtered[to++] = bytes[place] - foretold;
      }
      above = bytes;
    }
    this.above = above.slice();
    await this.writer.write(filtered);
  }

  async end() {
    await this.writer.close();
    await this.finished;
    return new Blob([...this.parts, chunk('IEND', new Uint8Array())], { type: 'image/png' });
  }
}

// --- Restoring ------------------------------------------------------------------------------------------------------

/** The tiles of an image, by rows of tiles, and the pixels that the networks see for all of them. */
function plan(size, most = tileFor(size)) {
  const bands = cut(size[1], most).map((rows) => cut(size[0], most).map((columns) => ({ rows, columns })));
  return { bands, work: bands.flat().reduce((sum, tile) => sum + areaOf(seenBy(tile, size)), 0) };
}

/** Restore an image; a tile at a time is posted, and in the end the file and the kernels. */
async function restore({ bitmap, most }) {
  const { scale } = engine.facts, size = [bitmap.width, bitmap.height];
  const { bands, work } = plan(size, most);
  const looks = looksOf(bitmap), field = emptyField(size), length = 3 * scale * size[0];
  const png = new PngWriter(scale * size[0], scale * size[1]);
  let done = 0;
  for (const band of bands) {
    const rows = new Uint8Array(length * scale * lengthOf(band[0].rows));
    for (const tile of band) {
      const seen = seenBy(tile, size);
      const result = await restoreView(planesOf(bytesOfPart(bitmap, seen)), tile, size);
      const bytes = bytesOfTile(result, tile, looks.grey);
      keepKernels(field, result, tile, size);
      const width = scale * lengthOf(tile.columns), left = 3 * scale * tile.columns[0];
      for (let pixel = 0; pixel < bytes.length / 4; pixel++) {
        const to = Math.floor(pixel / width) * length + left + 3 * (pixel % width);
        for (let channel = 0; channel < 3; channel++) rows[to + channel] = bytes[4 * pixel + channel];
      }
      done += areaOf(seen);
      const place = [scale * tile.columns[0], scale * tile.rows[0]];
      postMessage({ kind: 'tile', place, width, bytes, share: done / work }, [bytes.buffer]);
    }
    await png.write(rows);
  }
  postMessage({ kind: 'restored', png: await png.end(), field, ...looks }, [field.kernels.buffer]);
}

/** What the page can ask for; each is answered by a message. */
const ORDERS = {
  start: async (order) => { await start(order); postMessage({ kind: 'started' }); },
  estimate: async ({ size, most }) => {
    const { bands, work } = plan(size, most);
    postMessage({ kind: 'estimated', seconds: work * await measure(), tiles: bands.flat().length });
  },
  restore,
};

self.onmessage = async ({ data }) => {
  try {
    await ORDERS[data.kind](data);
  } catch (error) {
    postMessage({ kind: 'failed', words: String(error?.message ?? error) });
  }
};
