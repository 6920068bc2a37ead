// The other end of the socket ping-pong: sends back what it gets. Usage: echo.js PATH
import { createServer } from 'node:net';

createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(process.argv[2], () => console.log('ready'));
