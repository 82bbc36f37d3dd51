'use strict';
// What the pages that show kernels have in common: small helpers, and kernels, ellipses and maps of a kernel field.
//
// A field has `rows` x `columns` kernels of `kernelSize` x `kernelSize` taps, one for each `stride` x `stride` px of the
// image; `kernel(cell)` gives the taps of one, `major[cell]`, `minor[cell]` (standard deviations, HR px) and
// `angle[cell]` are its Gaussian. A view is where a field is drawn: `width` x `height` CSS px for an image of
// `columns` x `rows` px, of which each is `scale` HR px wide.

/** @type {(id: string) => any} */
const byId = (id) => document.getElementById(id);
const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const percent = (share) => `${(100 * share).toPrecision(3)} %`;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function cellOf(field, [x, y]) {
  const row = clamp(Math.floor(y / field.stride), 0, field.rows - 1);
  return row * field.columns + clamp(Math.floor(x / field.stride), 0, field.columns - 1);
}

// --- Kernels --------------------------------------------------------------------------------------------------------

// Sums of a kernel that its Gaussian follows from: weight, x, y, xx, xy, yy. They are linear, so they go by component.
function momentsOf(taps, side) {
  const sums = new Float64Array(6);
  for (let y = 0, tap = 0; y < side; y++) {
    for (let x = 0; x < side; x++, tap++) {
      const [u, v, weight] = [x - (side - 1) / 2, y - (side - 1) / 2, taps[tap]];
      [1, u, v, u * u, u * v, v * v].forEach((factor, index) => { sums[index] += factor * weight; });
    }
  }
  return sums;
}

// The axes (standard deviations, major first) and the angle of the Gaussian with such moments.
function gaussianOf(moments) {
  const [weight, x, y, xx, xy, yy] = moments;
  const a = xx / weight - (x / weight) ** 2, b = xy / weight - x * y / weight ** 2, c = yy / weight - (y / weight) ** 2;
  const middle = (a + c) / 2, root = Math.hypot((a - c) / 2, b);
  return [Math.sqrt(Math.max(0, middle + root)), Math.sqrt(Math.max(0, middle - root)), 0.5 * Math.atan2(2 * b, a - c)];
}

function words(field, cell) {
  const [major, minor] = [field.major[cell], field.minor[cell]];
  const degrees = (Math.round(field.angle[cell] * 180 / Math.PI) + 180) % 180;
  const round = major - minor < 0.05 * major;
  return [
    round ? `blur ${major.toFixed(2)} px, round` : `blur ${major.toFixed(2)} × ${minor.toFixed(2)} px, ${degrees}°`,
    `variances ${(major ** 2).toFixed(2)}, ${(minor ** 2).toFixed(2)} px²`,
  ];
}

// --- Colours --------------------------------------------------------------------------------------------------------

const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50],
  [252, 255, 164],
];

function inferno(share) {
  const place = clamp(share, 0, 1) * (INFERNO.length - 1);
  const index = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[index].map((low, channel) => low + (place - index) * (INFERNO[index + 1][channel] - low));
}

// A direction has no head: half a turn goes once around the hues.
function hue(angle) {
  const third = (shift) => 0.5 + 0.5 * Math.cos(2 * angle - shift * 2 * Math.PI / 3);
  return [255 * third(0), 255 * third(1), 255 * third(2)];
}

// The trail of a point of light: images are cross-correlated with kernels, so it is the kernel turned by 180 degrees.
function drawKernel(canvas, kernel, side, peak) {
  canvas.width = canvas.height = side;
  const pixels = new ImageData(side, side);
  kernel.forEach((weight, tap) => pixels.data.set([...inferno(weight / peak), 255], 4 * (side * side - 1 - tap)));
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}

function element(name, text = '', attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
}

// --- A field over its image -----------------------------------------------------------------------------------------

// The cleared context of a canvas, which counts in CSS px.
function contextOf(canvas) {
  const context = canvas.getContext('2d');
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.scale(canvas.width / canvas.clientWidth, canvas.height / canvas.clientHeight);
  return context;
}

// The grid at which kernels or ellipses are drawn: cells of some `apart` CSS px that cover the whole image, each with the
// LR place under its middle and that middle in CSS px; and the shorter side of a cell.
/** @returns {[[[number, number], [number, number]][], number]} */
function gridPlaces(view, apart) {
  const columns = clamp(Math.round(view.width / apart), 1, view.columns), across = view.width / columns;
  const rows = clamp(Math.round(view.height / across), 1, view.rows), down = view.height / rows;
  /** @type {[[number, number], [number, number]][]} */
  const places = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const x = Math.floor((column + 0.5) * view.columns / columns), y = Math.floor((row + 0.5) * view.rows / rows);
      places.push([[x, y], [(column + 0.5) * across, (row + 0.5) * down]]);
    }
  }
  return [places, Math.min(across, down)];
}

// `peakOf(kernel)` is the weight that is drawn brightest.
function drawKernelGrid(context, field, view, peakOf) {
  const [places, apart] = gridPlaces(view, 58);
  const small = document.createElement('canvas');
  context.fillStyle = 'rgb(0 0 0 / 55%)';
  context.fillRect(0, 0, view.width, view.height);
  context.imageSmoothingEnabled = false;
  for (const [place, [x, y]] of places) {
    const kernel = field.kernel(cellOf(field, place));
    drawKernel(small, kernel, field.kernelSize, peakOf(kernel));
    const size = 0.92 * apart;
    context.drawImage(small, x - size / 2, y - size / 2, size, size);
  }
}

function drawEllipses(context, field, view) {
  const [places, apart] = gridPlaces(view, 40);
  const largest = field.major.reduce((a, b) => Math.max(a, b), 1e-9);
  const unit = view.width / view.columns;
  const enlarged = 0.46 * apart / (largest / view.scale * unit);
  context.lineWidth = 1.8;
  for (const [place, [x, y]] of places) {
    const cell = cellOf(field, place);
    const radius = (axis) => Math.max(0.6, axis / view.scale * unit * enlarged);
    context.beginPath();
    context.ellipse(x, y, radius(field.major[cell]), radius(field.minor[cell]), field.angle[cell], 0, 2 * Math.PI);
    context.strokeStyle = 'rgb(0 0 0 / 70%)';
    context.lineWidth = 3.4;
    context.stroke();
    context.strokeStyle = '#ffd34d';
    context.lineWidth = 1.6;
    context.stroke();
  }
  return `axes of the Gaussians (one standard deviation), ${enlarged.toFixed(1)} times enlarged`;
}

// A picture of the field with a colour [r, g, b, a] for each kernel.
function drawMap(context, field, view, colour) {
  const small = element('canvas', '', { width: field.columns, height: field.rows });
  const pixels = new ImageData(field.columns, field.rows);
  for (let cell = 0; cell < field.rows * field.columns; cell++) pixels.data.set(colour(cell), 4 * cell);
  small.getContext('2d').putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  const unit = view.width / view.columns;
  const [width, height] = [field.columns * field.stride, field.rows * field.stride];
  const whole = field.rows * field.columns === 1;
  context.drawImage(small, 0, 0, (whole ? view.columns : width) * unit, (whole ? view.rows : height) * unit);
}

const strengthOf = (field, cell) => Math.sqrt((field.major[cell] ** 2 + field.minor[cell] ** 2) / 2);

function drawStrength(context, field, view) {
  let [low, high] = [Infinity, 0];
  for (let cell = 0; cell < field.major.length; cell++) {
    low = Math.min(low, strengthOf(field, cell));
    high = Math.max(high, strengthOf(field, cell));
  }
  const range = Math.max(high - low, 1e-6);
  drawMap(context, field, view, (cell) => [...inferno((strengthOf(field, cell) - low) / range), 190]);
  return ['blur (standard deviation)', `${low.toFixed(2)} px`, inferno, `${high.toFixed(2)} px`];
}

function drawDirection(context, field, view) {
  drawMap(context, field, view, (cell) => {
    const longer = 1 - field.minor[cell] / Math.max(field.major[cell], 1e-9);
    return [...hue(field.angle[cell]), 40 + 190 * Math.min(1, 1.6 * longer)];
  });
  return ['direction of the longer axis; faint where the kernel is round', '0°', (share) => hue(Math.PI * share), '180°'];
}

function legendBar(colour) {
  const bar = element('canvas', '', { width: 120, height: 12 });
  const context = bar.getContext('2d');
  for (let x = 0; x < 120; x++) {
    context.fillStyle = `rgb(${colour(x / 119).map(Math.round).join(' ')})`;
    context.fillRect(x, 0, 1, 12);
  }
  return bar;
}
