// The other process of the store's tests: opens the arena it is told of and answers one request at a time.
import { native } from '#src/native/index.js';

export type StoreRequest =
  | { readonly kind: 'open'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'write'; readonly offset: number; readonly text: string }
  | { readonly kind: 'read'; readonly offset: number; readonly length: number }
  | { readonly kind: 'deface'; readonly offset: number; readonly text: string }
  | { readonly kind: 'countReleases'; readonly offset: number; readonly views: number };

declare const gc: () => void; // this process runs with --expose-gc

let arena: ReturnType<ReturnType<typeof native>['openArena']> | null = null;

async function answer(request: StoreRequest): Promise<string> {
  if (request.kind === 'open') {
    arena = native().openArena(request);
    return 'open';
  }
  if (!arena) throw new Error('open an arena first');
  switch (request.kind) {
    case 'write':
      arena.write(request.offset, [Buffer.from(request.text)]);
      return 'written';
    case 'read':
      return Buffer.from(arena.readable(request.offset, request.length, () => {})).toString();
    case 'deface': {
      const view = Buffer.from(arena.readable(request.offset, request.text.length, () => {}));
      view.write(request.text);
      return view.toString();
    }
    case 'countReleases':
      return await countReleases(arena, request);
  }
}

/** Makes views, drops them, and waits until each was released; then collects again to see that none is released twice. */
async function countReleases(
  from: NonNullable<typeof arena>,
  { offset, views }: { offset: number; views: number },
): Promise<string> {
  let released = 0;
  const everyOne = new Promise<void>((resolve) => {
    const onRelease = () => {
      released += 1;
      if (released === views) resolve();
    };
    for (let view = 0; view < views; view++) from.readable(offset, view % 100, onRelease);
  });
  const collector = setInterval(gc, 1);
  await everyOne;
  clearInterval(collector);
  for (let round = 0; round < 3; round++) {
    gc();
    await new Promise(setImmediate);
  }
  return String(released);
}

process.on('message', (request: StoreRequest) => {
  answer(request).then(
    (text) => process.send?.({ text }),
    (error: unknown) => process.send?.({ text: `failed: ${String(error)}` }),
  );
});
