// Shows the kernel of the LR pixel under the pointer. A kernel is mean + step * levels @ basis, see coding.py. What
// drawing.js has stands before this.

const data = JSON.parse(document.getElementById('data').textContent);
const stage = byId('stage');
const state = {
  place: [Math.floor(data.width / 2), Math.floor(data.height / 2)],
  pins: [], pinNumber: 0, image: 0, overlay: 0, source: 0, zoom: 1, common: false,
};
const pictures = [];
let fields = [];

// --- The fields -----------------------------------------------------------------------------------------------------

const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);

// Differences along rows, of each component the low bytes, then the high bytes, to levels.
function levelsOf(bytes, field) {
  const cells = field.rows * field.columns;
  const levels = new Int16Array(field.components * cells);
  for (let component = 0; component < field.components; component++) {
    const low = 2 * component * cells;
    for (let cell = 0, level = 0; cell < cells; cell++) {
      if (cell % field.columns === 0) level = 0;
      level = ((level + (bytes[low + cell] | (bytes[low + cells + cell] << 8))) << 16) >> 16;
      levels[component * cells + cell] = level;
    }
  }
  return levels;
}

async function readField(field) {
  const read = { ...field, mean: floatsOf(field.mean), basis: floatsOf(field.basis) };
  read.levels = levelsOf(await inflate(bytesOf(field.levels)), field);
  read.kernel = (cell) => kernelOf(read, cell);
  addGaussians(read);
  return read;
}

// The axes (standard deviations, HR px) and the angle of every kernel, and the largest peak of some.
function addGaussians(field) {
  const side = field.kernelSize, taps = side * side, cells = field.rows * field.columns;
  const mean = momentsOf(field.mean, side);
  const parts = [];
  for (let index = 0; index < field.components; index++) {
    parts.push(momentsOf(field.basis.subarray(index * taps, (index + 1) * taps), side));
  }
  field.major = new Float32Array(cells);
  field.minor = new Float32Array(cells);
  field.angle = new Float32Array(cells);
  const sums = new Float64Array(6);
  for (let cell = 0; cell < cells; cell++) {
    sums.set(mean);
    for (let index = 0; index < parts.length; index++) {
      const code = field.step * field.levels[index * cells + cell];
      if (code !== 0) for (let moment = 0; moment < 6; moment++) sums[moment] += code * parts[index][moment];
    }
    [field.major[cell], field.minor[cell], field.angle[cell]] = gaussianOf(sums);
  }
  field.peak = 0;
  for (let cell = 0; cell < cells; cell += Math.max(1, Math.floor(cells / 500))) {
    field.peak = Math.max(field.peak, Math.max(...kernelOf(field, cell)));
  }
}

function kernelOf(field, cell) {
  const taps = field.kernelSize ** 2, cells = field.rows * field.columns;
  const kernel = Float32Array.from(field.mean);
  for (let index = 0; index < field.components; index++) {
    const code = field.step * field.levels[index * cells + cell];
    if (code !== 0) for (let tap = 0; tap < taps; tap++) kernel[tap] += code * field.basis[index * taps + tap];
  }
  return kernel.map((weight) => Math.max(0, weight));
}

// --- Drawing kernels and places -------------------------------------------------------------------------------------

// The weight of a tap that is drawn brightest: a flat kernel would be black on the scale of a sharp one beside it.
function brightest(kernel) {
  return Math.max(1e-9, ...(state.common ? fields.map((field) => field.peak) : kernel));
}

const scaleWords = () => (state.common
  ? `all brightest at ${percent(brightest([]))} of the weight` : 'each brightest at its own peak');

// A card with the kernels of a place; `number` of a pin, 0 for the place under the pointer.
function card(place, number) {
  const made = element('div', '', { className: 'place' });
  const heading = element('h3');
  if (number) heading.append(element('span', String(number), { className: 'number' }));
  heading.append(element('span', `x ${place[0]}, y ${place[1]}`, { className: 'where' }));
  const row = element('div', '', { className: 'kernels' });
  const kernels = fields.map((field) => field.kernel(cellOf(field, place)));
  fields.forEach((field, index) => {
    const figure = element('figure', '', { className: 'kernel' });
    figure.dataset.field = field.name;
    const canvas = element('canvas');
    drawKernel(canvas, kernels[index], field.kernelSize, brightest(kernels[index]));
    const caption = element('figcaption');
    const lines = [...words(field, cellOf(field, place)), `peak ${percent(Math.max(...kernels[index]))} of the weight`];
    caption.append(element('b', field.name), ...lines.map((line) => element('span', line)));
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `${field.name} kernel`);
    figure.append(canvas, caption);
    row.append(figure);
  });
  made.append(heading, row);
  if (!number) made.append(element('p', `Brightness: ${scaleWords()}.`, { className: 'scale' }));
  if (kernels.length === 2 && kernels[0].length === kernels[1].length) {
    const apart = kernels[0].reduce((sum, weight, tap) => sum + Math.abs(weight - kernels[1][tap]), 0) / 2;
    made.append(element('p', `${(100 * apart).toFixed(1)} % of the weight lies elsewhere`, { className: 'difference' }));
  }
  return made;
}

function showPlace() {
  byId('here').replaceChildren(card(state.place, 0));
  drawMarks();
}

function showPins() {
  const cards = state.pins.map((pin) => {
    const item = element('li');
    item.append(card(pin.place, pin.number));
    const remove = element('button', '×', { title: `Unpin ${pin.number}` });
    remove.setAttribute('aria-label', `Unpin ${pin.number}`);
    remove.onclick = () => { state.pins = state.pins.filter((other) => other !== pin); showPins(); drawMarks(); };
    item.querySelector('h3').append(remove);
    return item;
  });
  byId('pins').replaceChildren(...cards);
  byId('no-pins').hidden = cards.length > 0;
}

// --- Drawing the image, the overlays and the marks ------------------------------------------------------------------

const OVERLAYS = ['none', 'kernels', 'ellipses', 'strength', 'direction'];

// CSS px of an LR pixel.
const unit = () => byId('picture').clientWidth / data.width;

function layOut() {
  const room = byId('view').clientWidth - 28;
  const most = parseFloat(getComputedStyle(stage).maxHeight);  // as the style has it for this window
  const width = Math.max(64, Math.floor(Math.min(room, most * data.width / data.height) * state.zoom));
  const height = Math.max(1, Math.round(width * data.height / data.width));
  const ratio = Math.min(window.devicePixelRatio || 1, 4096 / Math.max(width, height));
  for (const id of ['picture', 'overlay', 'marks']) {
    const canvas = byId(id);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
  }
  drawPicture();
  drawOverlay();
  drawMarks();
}

function drawPicture() {
  const canvas = byId('picture');
  const context = contextOf(canvas);
  const picture = pictures[state.image];
  context.imageSmoothingEnabled = picture.naturalWidth > canvas.clientWidth;
  context.imageSmoothingQuality = 'high';
  context.drawImage(picture, 0, 0, canvas.clientWidth, canvas.clientHeight);
}

function drawTrails(context, field, view) {
  drawKernelGrid(context, field, view, brightest);
  return `kernels at the places where they are found, ${scaleWords()}`;
}

function drawOverlay() {
  const context = contextOf(byId('overlay'));
  const field = fields[Math.min(state.source, fields.length - 1)];
  const draw = [null, drawTrails, drawEllipses, drawStrength, drawDirection][state.overlay];
  const legend = byId('legend');
  legend.hidden = draw === null;
  if (draw === null) return;
  const { clientWidth: width, clientHeight: height } = byId('overlay');
  const view = { width, height, columns: data.width, rows: data.height, scale: data.scale };
  const told = [draw(context, field, view)].flat();
  legend.replaceChildren(...told.map((part) => (typeof part === 'function' ? legendBar(part) : element('span', part))));
  if (fields.length > 1) legend.prepend(element('span', `${field.name}:`));
}

function drawMarks() {
  const context = contextOf(byId('marks'));
  const at = ([x, y]) => [(x + 0.5) * unit(), (y + 0.5) * unit()];
  const ring = ([x, y], colour) => {
    for (const [width, style] of [[4, 'rgb(0 0 0 / 75%)'], [2, colour]]) {
      context.beginPath();
      context.arc(x, y, 7, 0, 2 * Math.PI);
      context.lineWidth = width;
      context.strokeStyle = style;
      context.stroke();
    }
  };
  ring(at(state.place), '#fff');
  context.font = 'bold 13px system-ui, sans-serif';
  for (const pin of state.pins) {
    const [x, y] = at(pin.place);
    ring([x, y], '#ff9a62');
    context.lineWidth = 3;
    context.strokeStyle = 'rgb(0 0 0 / 80%)';
    context.strokeText(String(pin.number), x + 10, y - 6);
    context.fillStyle = '#ff9a62';
    context.fillText(String(pin.number), x + 10, y - 6);
  }
}

// --- What the user does ---------------------------------------------------------------------------------------------

function moveTo(x, y) {
  const place = [clamp(x, 0, data.width - 1), clamp(y, 0, data.height - 1)];
  if (place[0] === state.place[0] && place[1] === state.place[1]) return;
  state.place = place;
  showPlace();
}

function moveToPointer(event) {
  const box = byId('picture').getBoundingClientRect();
  moveTo(Math.floor((event.clientX - box.left) / unit()), Math.floor((event.clientY - box.top) / unit()));
}

function pin() {
  state.pins.push({ place: state.place, number: ++state.pinNumber });
  showPins();
  drawMarks();
}

function unpinLast() {
  state.pins.pop();
  showPins();
  drawMarks();
}

function choose(key, value) {
  state[key] = value;
  for (const [index, button] of [...byId(`${key}s`).children].entries()) {
    button.setAttribute('aria-pressed', String(index === value));
  }
  if (key === 'image') drawPicture();
  else drawOverlay();
}

function setCommon(value) {
  state.common = value;
  byId('common').checked = value;
  showPlace();
  showPins();
  drawOverlay();
}

function zoomTo(value) {
  const [x, y] = state.place;
  state.zoom = clamp(value, 1, 16);
  layOut();
  stage.scrollTo((x + 0.5) * unit() - stage.clientWidth / 2, (y + 0.5) * unit() - stage.clientHeight / 2);
}

function turnTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark ? 'light' : 'dark';
}

function toggleHelp() {
  byId('keys').hidden = !byId('keys').hidden;
  byId('help').setAttribute('aria-expanded', String(!byId('keys').hidden));
}

const next = (key, count) => choose(key, (state[key] + 1) % count);
const KEYS = {
  Enter: pin, Backspace: unpinLast, i: () => next('image', pictures.length), o: () => next('overlay', OVERLAYS.length),
  f: () => next('source', fields.length), s: () => setCommon(!state.common), '+': () => zoomTo(1.5 * state.zoom),
  '=': () => zoomTo(1.5 * state.zoom), '-': () => zoomTo(state.zoom / 1.5), 0: () => zoomTo(1), t: turnTheme,
  '?': toggleHelp,
};
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Enter' && event.target.matches('button, input')) return;
  const move = MOVES[event.key];
  if (move) {
    const far = event.shiftKey ? 10 : 1;
    moveTo(state.place[0] + far * move[0], state.place[1] + far * move[1]);
  } else if (Object.hasOwn(KEYS, event.key)) {
    KEYS[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}

function addChoices(key, names) {
  const group = byId(`${key}s`);
  group.replaceChildren(...names.map((name, index) => {
    const button = element('button', name);
    button.setAttribute('aria-pressed', String(index === 0));
    button.onclick = () => choose(key, index);
    return button;
  }));
  group.hidden = names.length < 2;
}

async function start() {
  for (const image of data.images) {
    const picture = new Image();
    picture.src = image.source;
    await picture.decode();
    pictures.push(picture);
  }
  fields = await Promise.all(data.fields.map(readField));
  addChoices('image', data.images.map((image) => image.name));
  addChoices('overlay', OVERLAYS);
  addChoices('source', fields.map((field) => field.name));
  byId('errors').textContent = fields.map((field) => `${field.name} kernels as shown here: ${field.error}`).join(' · ');
  stage.addEventListener('pointermove', moveToPointer);
  stage.addEventListener('pointerdown', (event) => { if (event.button === 0) { moveToPointer(event); pin(); } });
  document.addEventListener('keydown', pressed);
  window.addEventListener('resize', layOut);
  byId('smaller').onclick = KEYS['-'];
  byId('fit').onclick = KEYS[0];
  byId('larger').onclick = KEYS['+'];
  byId('theme').onclick = turnTheme;
  byId('help').onclick = toggleHelp;
  byId('common').onchange = (event) => setCommon(event.target.checked);
  layOut();
  showPlace();
  showPins();
  document.body.dataset.ready = 'true';
}

start().catch((error) => { byId('errors').textContent = `This page cannot be shown: ${error}`; });
