// A program that knows nothing of the host: it answers the line that it reads with `Hello NAME!`.
const LINE_END: u8 = 0x0a;

const line = new Uint8Array(1024);
let length = 0;
while (length < line.length && !line.includes(LINE_END)) {
  const arrived = process.stdin.read(line.buffer, length);
  if (arrived == 0) break;
  length += arrived;
}
const end = line.indexOf(LINE_END);
const name = String.UTF8.decode(line.buffer.slice(0, end < 0 ? length : end)).trim();
process.stdout.write("Hello " + (name.length ? name : "world") + "!\n");
