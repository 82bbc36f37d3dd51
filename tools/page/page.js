// The page on which a photograph is restored: takes it, has it restored by worker.js, shows and saves the result.
// What the explorer's drawing.js has stands before this.

/**
 * @typedef {{kernelSize: number, stride: number, rows: number, columns: number, kernels: Float32Array,
 *   kernel: (cell: number) => Float32Array, major: Float32Array, minor: Float32Array, angle: Float32Array}} Field
 */

/** Longer ones are begun only when they are asked for. */
const SECONDS_UNASKED = 60;
/** Smallest side of a part that is restored by itself, in px. */
const SMALLEST_PART = 32;
/** Pixels of an image that is begun without measuring how long it takes. */
const SMALL = 150 * 150;
/** Longest side of the canvas on which tiles appear. */
const LONGEST_PREVIEW = 4096;
const OVERLAYS = ['image', 'kernels', 'ellipses', 'strength', 'direction'];
/** For tests and the curious: ?tile=64&device=wasm */
const wishes = new URLSearchParams(location.search);

const state = {
  /** @type {File | null} */ file: null, width: 0, height: 0, scale: Number(document.body.dataset.scale), zoom: 1, overlay: 0,
  /** @type {Field | null} */ field: null,
  /** The part that is offered: left, top, width and height, in px of the photograph. */
  frame: [0, 0, 0, 0],
  /** When restoring began, how much is done, and how long all should take; in ms. */
  begun: 0, share: 0, expected: Infinity,
};
/** @type {Worker | null} */
let worker = null;
/** Counts photographs and cancellations, so that what comes too late is known. */
let turn = 0;

// --- The parts, which are scripts since a page from a disk may load nothing else -------------------------------------

/** @type {Map<string, Promise<Record<string, Uint8Array<ArrayBuffer>>>>} */
const loaded = new Map();

/** Load a part and inflate what is in it. */
function part(name) {
  if (!loaded.has(name)) {
    const loading = loadPart(name);
    loading.catch(() => loaded.delete(name));
    loaded.set(name, loading);
  }
  return loaded.get(name);
}

async function loadPart(name) {
  const script = element('script', '', { src: `parts/${name}.js` });
  await new Promise((done, failed) => {
    script.onload = done;
    script.onerror = () => failed(new Error(`parts/${name}.js cannot be read; load the page again`));
    document.head.append(script);
  });
  script.remove();
  const { parts } = /** @type {{parts: Record<string, Record<string, string>>}} */ (/** @type {unknown} */ (self));
  const inflated = Object.entries(parts[name]).map(async ([key, text]) => [key, await inflate(bytesOf(text))]);
  delete parts[name];
  return Object.fromEntries(await Promise.all(inflated));
}

const textOf = (bytes) => new TextDecoder().decode(bytes);

// --- The worker -----------------------------------------------------------------------------------------------------

async function hasGraphicsCard() {
  try {
    const adapter = await /** @type {any} */ (navigator).gpu?.requestAdapter();
    return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
  } catch {
    return false;
  }
}

/** Threads need memory that they share, which browsers give only to a page that is isolated, see isolate.js. */
const threadsOf = () => (self.crossOriginIsolated ? clamp(navigator.hardwareConcurrency ?? 1, 1, 8) : 1);

/** Start a worker for a device, and wait until it can restore. */
async function startWorker(device) {
  const [{ program }, runtime, { facts, ...model }] = await Promise.all([part('worker'), part(device), part('model')]);
  const address = URL.createObjectURL(new Blob([program], { type: 'text/javascript' }));
  const started = new Worker(address), threads = threadsOf();
  try {
    await ask(started, { kind: 'start', runtime, model, facts: JSON.parse(textOf(facts)), device, threads });
  } catch (error) {
    started.terminate();
    throw error;
  } finally {
    URL.revokeObjectURL(address);
  }
  const where = device === 'webgpu' ? 'the graphics card' : `the processor, ${threads} thread${threads > 1 ? 's' : ''}`;
  byId('engine').textContent = `Computes on ${where}.`;
  return started;
}

/** Give an order and wait for what it ends with; `onTile` is called with the tiles on the way. */
function ask(to, order, { transfer = [], onTile = (_) => {} } = {}) {
  return new Promise((done, failed) => {
    to.onmessage = ({ data }) => {
      if (data.kind === 'tile') onTile(data);
      else if (data.kind === 'failed') failed(new Error(data.words));
      else done(data);
    };
    to.onerror = (event) => { event.preventDefault(); failed(new Error(event.message || 'the browser stopped it')); };
    to.postMessage(order, transfer);
  });
}

/** The worker, started on the device that is chosen; where the graphics card fails, on the processor. */
async function readyWorker() {
  if (worker) return worker;
  const mine = turn, device = byId('device').value;
  let started;
  try {
    started = await startWorker(device);
  } catch (error) {
    if (device === 'wasm') throw error;
    byId('device').value = 'wasm';
    started = await startWorker('wasm');
  }
  if (mine !== turn) started.terminate();
  else worker = started;
  return started;
}

/** Stop whatever is being computed, at once, and give its memory back. */
function stopWorker() {
  turn++;
  worker?.terminate();
  worker = null;
}

// --- A photograph ---------------------------------------------------------------------------------------------------

/** Show which of the page's states it is in, and say something. */
function enter(name, words = '') {
  document.body.dataset.state = name;
  byId('entry').hidden = name !== 'empty';
  byId('work').hidden = name === 'empty';
  byId('status').textContent = words;
  byId('progress').removeAttribute('value');
  state.begun = 0;
}

function complain(words) {
  byId('trouble').textContent = words;
  byId('trouble').hidden = !words;
}

/** Say how many pixels there are, where they are many: ", 16 megapixels". */
const megapixels = (count) => (count < 1e6 ? '' : `, ${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} megapixels`);

/** Say how long seconds are: "about 3 min". */
function duration(seconds) {
  if (seconds < 2) return 'a moment';
  if (seconds < 90) return `about ${Math.ceil(seconds / (seconds < 20 ? 1 : 5)) * (seconds < 20 ? 1 : 5)} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  return `about ${(seconds / 3600).toFixed(1)} h`;
}

/** Take a file: show it, and restore it unless that takes long. */
async function take(file) {
  complain('');
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    complain(`${file.name || 'What was pasted'} is no image that this browser reads; JPEG, PNG, WebP, AVIF, GIF and BMP are.`);
    return;
  }
  if (document.body.dataset.state === 'working') stopWorker();
  turn++;
  const { width, height } = bitmap;
  Object.assign(state, { file, width, height, field: null, zoom: 1, expected: Infinity });
  bitmap.close();
  const name = file.name || 'pasted.png';
  byId('name').textContent = `${name}: ${state.width} × ${state.height} px`;
  byId('download').download = `${name.replace(/\.[^.]*$/, '')}_x${state.scale}.png`;
  byId('notes').replaceChildren();
  show(byId('before'), file);
  show(byId('result'), null);
  byId('frame').hidden = true;
  byId('go').textContent = 'Restore';
  clearTiles();
  enter('working', 'Getting ready …');
  chooseOverlay(0);
  layOut();
  await attempt(begin);
}

/** Show a file or a blob in an image, or nothing. */
function show(image, source) {
  if (image.src) URL.revokeObjectURL(image.src);
  if (source) image.src = URL.createObjectURL(source);
  else image.removeAttribute('src');
  image.hidden = !source;
}

/** Do something for the photograph that is there; say what fails, unless it was cancelled meanwhile. */
async function attempt(action) {
  const mine = turn;
  try {
    await action(() => mine === turn);
  } catch (error) {
    if (mine !== turn) return;
    stopWorker();
    complain(`It could not be restored: ${error.message}`);
    enter('waiting');
  }
}

/** Estimate how long it takes, and restore it if that is not long. */
async function begin(isCurrent) {
  const size = [state.width, state.height], most = Number(wishes.get('tile')) || undefined;
  const ready = await readyWorker();
  if (!isCurrent()) return;
  if (state.width * state.height > SMALL) {
    byId('status').textContent = 'Measuring how long it takes …';
    const { seconds } = await ask(ready, { kind: 'estimate', size, most });
    if (!isCurrent()) return;
    state.expected = 1000 * seconds;
    if (seconds > SECONDS_UNASKED) {
      const result = state.width * state.height * state.scale ** 2;
      byId('go').textContent = 'Restore all of it';
      enter('waiting', `Takes ${duration(seconds)} on this machine; the result has `
        + `${state.scale * state.width} × ${state.scale * state.height} px${megapixels(result)}.`);
      offerPart(Math.sqrt(SECONDS_UNASKED / seconds));
      return;
    }
  }
  await restorePhotograph(isCurrent);
}

async function restorePhotograph(isCurrent) {
  const ready = await readyWorker();
  const bitmap = await createImageBitmap(state.file);
  if (!isCurrent()) return;
  enter('working', 'Restoring …');
  clearTiles();
  Object.assign(state, { begun: performance.now(), share: 0 });
  const order = { kind: 'restore', bitmap, most: Number(wishes.get('tile')) || undefined };
  const done = await ask(ready, order, { transfer: [bitmap], onTile: showTile });
  if (!isCurrent()) return;
  showResult(done);
}

// --- A part of a large photograph -----------------------------------------------------------------------------------

/** Frame a part in the middle whose sides are such a share of the photograph's. */
function offerPart(share) {
  state.frame = [0, 0, state.width, state.height];
  byId('frame').hidden = false;
  byId('size').value = String(1 + Math.log(share) / Math.log(Math.max(state.width, state.height) / SMALLEST_PART));
  sizeFrame();
  byId('frame').focus();
}

/** Make the frame as large as the slider says, which goes by factors; its middle stays. */
function sizeFrame() {
  const [x, y, width, height] = state.frame;
  const share = (Math.max(state.width, state.height) / SMALLEST_PART) ** (Number(byId('size').value) - 1);
  const sides = [state.width, state.height].map((side) => Math.min(side, Math.max(SMALLEST_PART, Math.round(side * share))));
  state.frame = [x, y, ...sides];
  moveFrame(x + (width - sides[0]) / 2, y + (height - sides[1]) / 2);
  const seconds = state.expected / 1000 * sides[0] * sides[1] / (state.width * state.height);
  byId('size-told').textContent = `${sides[0]} × ${sides[1]} px, ${duration(seconds)}; drag the frame to where you want it`;
}

function moveFrame(left, top) {
  const [, , width, height] = state.frame;
  const [x, y] = [clamp(Math.round(left), 0, state.width - width), clamp(Math.round(top), 0, state.height - height)];
  state.frame = [x, y, width, height];
  const places = { left: x / state.width, top: y / state.height, width: width / state.width, height: height / state.height };
  for (const [name, share] of Object.entries(places)) byId('frame').style[name] = `${100 * share}%`;
}

/** Move the frame so that its middle is under the pointer. */
function dragFrame(event) {
  if (!(event.buttons & 1)) return;
  const box = byId('sheet').getBoundingClientRect(), [, , width, height] = state.frame;
  moveFrame((event.clientX - box.left) / box.width * state.width - width / 2,
    (event.clientY - box.top) / box.height * state.height - height / 2);
}

function pressOnFrame(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key], [x, y, width, height] = state.frame;
  if (!move) return;
  event.preventDefault();
  moveFrame(x + Math.ceil(move[0] * width / 8), y + Math.ceil(move[1] * height / 8));
}

/** Go on with the framed part as a photograph of its own. */
async function takePart() {
  const [x, y, width, height] = state.frame, { file } = state;
  const whole = await createImageBitmap(file), canvas = new OffscreenCanvas(width, height);
  canvas.getContext('2d').drawImage(whole, -x, -y);
  const name = `${(file.name || 'pasted').replace(/\.[^.]*$/, '')}_part.png`;
  await take(new File([await canvas.convertToBlob()], name, { type: 'image/png' }));
}

// --- Stopping -------------------------------------------------------------------------------------------------------

/** Stop, and stay with the photograph. */
function cancel() {
  if (document.body.dataset.state !== 'working') return;
  stopWorker();
  clearTiles();
  enter('waiting', 'Cancelled.');
}

// --- What comes from the worker -------------------------------------------------------------------------------------

function clearTiles() {
  const canvas = byId('tiles');
  const ratio = Math.min(1, LONGEST_PREVIEW / (state.scale * Math.max(state.width, state.height)));
  canvas.width = Math.max(1, Math.round(state.scale * state.width * ratio));
  canvas.height = Math.max(1, Math.round(state.scale * state.height * ratio));
  canvas.hidden = false;
}

/** Say how far it is. Between tiles, which may take long, time tells. */
function showProgress() {
  const passed = performance.now() - state.begun;
  if (document.body.dataset.state !== 'working' || state.begun === 0 || state.expected === Infinity) return;
  const share = Math.max(state.share, Math.min(0.99, passed / state.expected));
  byId('progress').value = share;
  byId('status').textContent = share === 1 ? 'Writing the file …'
    : `Restoring: ${Math.floor(100 * share)} %, ${duration(Math.max(0, state.expected - passed) / 1000)} left`;
}

async function showTile({ place, width, bytes, share }) {
  const canvas = byId('tiles'), ratio = canvas.width / (state.scale * state.width), mine = turn;
  Object.assign(state, { share, expected: (performance.now() - state.begun) / share });
  showProgress();
  const tile = await createImageBitmap(new ImageData(bytes, width));
  if (mine !== turn) return;
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(tile, ratio * place[0], ratio * place[1], ratio * tile.width, ratio * tile.height);
}

function showResult({ png, field, grey, transparent }) {
  const seconds = (performance.now() - state.begun) / 1000;
  state.field = completed(field);
  const notes = [
    transparent && 'Transparent places were laid on white.',
    grey && 'It is grey, and stays grey.',
    'The file has 8 bit sRGB colours and no camera data.',
  ].filter(Boolean);
  byId('notes').replaceChildren(...notes.map((words) => element('li', words)));
  show(byId('result'), png);
  byId('result').decode().then(() => { byId('tiles').hidden = true; }, () => { byId('result').hidden = true; });
  byId('download').href = byId('result').src;
  enter('done', `Restored in ${duration(seconds).replace('about ', '')}: ${state.scale * state.width} × `
    + `${state.scale * state.height} px, ${(png.size / 1e6).toFixed(1)} MB`);
  layOut();
}

/** Give a field what drawing it asks for. */
function completed(field) {
  const cells = field.rows * field.columns, taps = field.kernelSize ** 2;
  const made = { ...field, kernel: (cell) => field.kernels.subarray(cell * taps, (cell + 1) * taps) };
  for (const name of ['major', 'minor', 'angle']) made[name] = new Float32Array(cells);
  for (let cell = 0; cell < cells; cell++) {
    const found = gaussianOf(momentsOf(made.kernel(cell), field.kernelSize));
    [made.major[cell], made.minor[cell], made.angle[cell]] = found;
  }
  return made;
}

// --- Looking at it --------------------------------------------------------------------------------------------------

/** Make the sheet as large as the window and the zoom say. */
function layOut() {
  const stage = byId('stage'), sheet = byId('sheet');
  if (!state.file) return;
  const highest = parseFloat(getComputedStyle(stage).maxHeight);
  const fitting = Math.min(stage.parentElement.clientWidth, highest * state.width / state.height, state.scale * state.width);
  const width = Math.max(48, Math.floor(fitting * state.zoom));
  sheet.style.width = `${width}px`;
  sheet.style.height = `${Math.max(1, Math.round(width * state.height / state.width))}px`;
  const overlay = byId('overlay'), ratio = Math.min(devicePixelRatio || 1, 4096 / Math.max(width, sheet.clientHeight));
  overlay.width = Math.max(1, Math.round(width * ratio));
  overlay.height = Math.max(1, Math.round(sheet.clientHeight * ratio));
  setSplit(Number(byId('split').value));
  drawOverlay();
}

function setSplit(share) {
  byId('split').value = String(share);
  byId('sheet').style.setProperty('--split', `${share}%`);
}

function zoomTo(value) {
  const stage = byId('stage'), before = state.zoom;
  const middle = [stage.scrollLeft + stage.clientWidth / 2, stage.scrollTop + stage.clientHeight / 2];
  state.zoom = clamp(value, 1, 16);
  layOut();
  const [x, y] = middle.map((place) => place * state.zoom / before);
  stage.scrollTo(x - stage.clientWidth / 2, y - stage.clientHeight / 2);
}

function chooseOverlay(index) {
  state.overlay = index;
  [...byId('overlays').children].forEach((button, place) => button.setAttribute('aria-pressed', String(place === index)));
  drawOverlay();
}

function drawTrails(context, field, view) {
  drawKernelGrid(context, field, view, (kernel) => Math.max(...kernel));
  return 'the blur at each place: what a point of light became';
}

function drawOverlay() {
  const context = contextOf(byId('overlay')), legend = byId('legend');
  const draw = state.field && [null, drawTrails, drawEllipses, drawStrength, drawDirection][state.overlay];
  byId('overlay').hidden = legend.hidden = byId('here').hidden = !draw;
  byId('sheet').classList.toggle('measured', Boolean(draw));
  if (!draw) return;
  const { clientWidth: width, clientHeight: height } = byId('sheet');
  const told = draw(context, state.field, { width, height, columns: state.width, rows: state.height, scale: state.scale });
  const parts = [told].flat().map((word) => (typeof word === 'function' ? legendBar(word) : element('span', word)));
  legend.replaceChildren(...parts);
  showKernel([state.width / 2, state.height / 2]);
}

/** Show the kernel that is nearest to a place, large and in words. */
function showKernel([x, y]) {
  if (!state.field || state.overlay === 0) return;
  const cell = cellOf(state.field, [x, y]), kernel = state.field.kernel(cell);
  drawKernel(byId('here').querySelector('canvas'), kernel, state.field.kernelSize, Math.max(...kernel));
  const [gaussian] = words(state.field, cell);
  byId('here').querySelector('figcaption').textContent = `at x ${Math.floor(x)}, y ${Math.floor(y)}: ${gaussian}`;
}

function pointed(event) {
  const box = byId('sheet').getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  if (state.overlay > 0) showKernel([clamp(x, 0, 0.9999) * state.width, clamp(y, 0, 0.9999) * state.height]);
  else if (event.buttons & 1) setSplit(clamp(100 * x, 0, 100));
}

// --- The page -------------------------------------------------------------------------------------------------------

/** Take the first file of a drop or a paste. */
function takeFirst(files, event) {
  if (!files?.length) return;
  event.preventDefault();
  take(files[0]);
}

function turnTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark ? 'light' : 'dark';
}

/** Ask for threads: isolate.js answers for the server that the page is isolated, once it is loaded again. */
async function isolate() {
  if (self.crossOriginIsolated || !location.protocol.startsWith('http') || !navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register('isolate.js');
    await navigator.serviceWorker.ready;
    const isAgain = sessionStorage.getItem('isolated');
    sessionStorage.setItem('isolated', 'yes');
    if (!isAgain && !state.file) location.reload();
  } catch {
    // One thread does it, too.
  }
}

async function setUp() {
  byId('file').onchange = (event) => { takeFirst(byId('file').files, event); byId('file').value = ''; };
  byId('another').onclick = () => byId('file').click();
  byId('go').onclick = () => { complain(''); enter('working', 'Getting ready …'); attempt(restorePhotograph); };
  byId('part').onclick = takePart;
  byId('size').oninput = sizeFrame;
  byId('frame').addEventListener('keydown', pressOnFrame);
  byId('frame').addEventListener('pointerdown', (event) => byId('frame').setPointerCapture(event.pointerId));
  byId('frame').addEventListener('pointermove', dragFrame);
  byId('cancel').onclick = cancel;
  byId('theme').onclick = turnTheme;
  byId('smaller').onclick = () => zoomTo(state.zoom / 1.5);
  byId('larger').onclick = () => zoomTo(1.5 * state.zoom);
  byId('fit').onclick = () => zoomTo(1);
  byId('split').oninput = () => setSplit(Number(byId('split').value));
  byId('device').onchange = () => { cancel(); stopWorker(); };
  byId('overlays').replaceChildren(...OVERLAYS.map((name, index) => {
    const button = element('button', name, { type: 'button', onclick: () => chooseOverlay(index) });
    button.setAttribute('aria-pressed', String(index === 0));
    return button;
  }));
  byId('sheet').addEventListener('pointerdown', (event) => { byId('sheet').setPointerCapture(event.pointerId); pointed(event); });
  byId('sheet').addEventListener('pointermove', pointed);
  document.addEventListener('paste', (event) => takeFirst(event.clipboardData?.files, event));
  document.addEventListener('dragover', (event) => { event.preventDefault(); document.body.dataset.over = 'yes'; });
  document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) delete document.body.dataset.over; });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    delete document.body.dataset.over;
    takeFirst(event.dataTransfer?.files, event);
  });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape') cancel(); });
  window.addEventListener('resize', layOut);
  setInterval(showProgress, 500);
  const hasCard = await hasGraphicsCard();
  byId('device-label').hidden = !hasCard;
  byId('device').value = wishes.get('device') ?? (hasCard ? 'webgpu' : 'wasm');
  await isolate();
  document.body.dataset.ready = 'true';
}

setUp();
