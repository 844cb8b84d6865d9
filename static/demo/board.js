'use strict';
const $ = (id) => document.getElementById(id);
const board = $('board');
const COLOURS = ['yellow', 'green', 'blue', 'pink', 'violet'];
const shown = new Map();
let socket;
let wait = 250;

const tell = (wish) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(wish));
const say = (text) => {
  $('said').textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ($('said').textContent = ''), 3000);
};
const live = (is) => {
  $('live').dataset.live = is ? 'yes' : 'no';
  $('live').lastElementChild.textContent = is ? 'Live' : 'Reconnecting';
};

function open() {
  socket = new WebSocket(`${location.protocol === 'http:' ? 'ws' : 'wss'}://${location.host}/live`);
  socket.onopen = () => {
    wait = 250;
    live(true);
  };
  socket.onmessage = ({ data }) => show(JSON.parse(data));
  socket.onclose = () => {
    live(false);
    setTimeout(open, wait);
    wait = Math.min(wait * 2, 5000);
  };
}

function show({ notes, here }) {
  $('here').replaceChildren(
    ...here.slice(0, 8).map((name) => {
      const one = document.createElement('li');
      one.textContent = name.split(/\s+/).map((part) => part[0]).join('').slice(0, 2).toUpperCase();
      one.title = name;
      return one;
    }),
  );
  const ids = new Set(notes.map(({ id }) => id));
  for (const [id, note] of shown) if (!ids.has(id)) note.remove(), shown.delete(id);
  for (const one of notes) paint(shown.get(one.id) ?? make(one.id), one);
}

function make(id) {
  const note = document.createElement('article');
  note.className = 'note';
  const grip = document.createElement('div');
  grip.className = 'grip';
  const away = document.createElement('button');
  away.textContent = '×';
  away.title = 'Remove this note';
  away.setAttribute('aria-label', 'Remove this note');
  away.onclick = () => tell({ do: 'remove', id });
  const text = document.createElement('textarea');
  text.maxLength = 400;
  text.setAttribute('aria-label', 'Text of the note');
  text.oninput = () => tell({ do: 'write', id, text: text.value });
  grip.append(away);
  note.append(grip, text, document.createElement('small'));
  grip.onpointerdown = (event) => {
    if (event.target === away) return;
    event.preventDefault();
    grip.setPointerCapture(event.pointerId);
    const box = note.getBoundingClientRect();
    const [dx, dy] = [event.clientX - box.left, event.clientY - box.top];
    note.classList.add('held');
    grip.onpointermove = ({ clientX, clientY }) => {
      const room = board.getBoundingClientRect();
      const part = (at, most) => Math.round(Math.max(0, Math.min(1000, (at / most) * 1000)));
      const [x, y] = [part(clientX - dx - room.left, room.width), part(clientY - dy - room.top, room.height)];
      place(note, x, y);
      tell({ do: 'move', id, x, y });
    };
    grip.onpointerup = grip.onpointercancel = () => {
      note.classList.remove('held');
      grip.onpointermove = null;
    };
  };
  board.append(note);
  shown.set(id, note);
  return note;
}

function place(note, x, y) {
  note.style.left = `min(${x / 10}%, calc(100% - ${note.offsetWidth}px))`;
  note.style.top = `min(${y / 10}%, calc(100% - ${note.offsetHeight}px))`;
}

function paint(note, { text, colour, x, y, by }) {
  note.dataset.colour = colour;
  const area = note.querySelector('textarea');
  if (area.value !== text && document.activeElement !== area) area.value = text;
  note.querySelector('small').textContent = by;
  if (!note.classList.contains('held')) place(note, x, y);
}

$('add').onclick = () => {
  const random = (most) => Math.floor(Math.random() * most);
  tell({ do: 'add', text: '', colour: COLOURS[random(COLOURS.length)], x: 100 + random(600), y: 100 + random(400) });
};
$('load').onchange = async ({ target }) => {
  const [file] = target.files;
  target.value = '';
  if (!file) return;
  try {
    const answer = await fetch('/board.json', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: file });
    say(await answer.text());
  } catch {
    say('That did not work.');
  }
};
fetch('/me')
  .then((answer) => answer.json())
  .then(({ user, name, groups, signed }) => {
    $('me').textContent = user
      ? `The gateway says you are ${name ? `${name}, ` : ''}${user}${groups ? ` (${groups})` : ''}${signed ? ', and signs it' : ''}. This application has no sign-in of its own.`
      : 'The gateway tells this application nothing about you.';
  })
  .catch(() => {});
open();
