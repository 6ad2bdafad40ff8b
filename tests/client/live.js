/*
 * What tests of client.js against real nodes stand on, in a page as in Node.js; client.js is there already.
 *
 *   const client = start(url, options);             a RealtimeClient whose events are kept in client.seen
 *   await until(() => client.state === "open");      looks again after each event of any client
 */
(() => {
  const DEADLINE_MS = 30000;
  const STEP_MS = 90000;
  const looking = new Set();
  const look = () => { for (const each of [...looking]) each(); };

  globalThis.start = (url, options = {}) => {
    const client = new RealtimeClient(url, { WebSocket: globalThis.TestWebSocket, ...options });
    client.seen = [];
    for (const event of RealtimeClient.EVENTS) {
      client.on(event, (detail) => {
        client.seen.push([event, detail]);
        queueMicrotask(look);
      });
    }
    return client;
  };

  /** A step of a test, which fails rather than wait for ever. */
  globalThis.inTime = async (step) => {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`Not in time: ${step}`)), STEP_MS);
    });
    return Promise.race([step(), late]).finally(() => clearTimeout(timer));
  };

  /** Something happened that is no event of a client. */
  globalThis.happened = look;

  globalThis.until = (holds) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      looking.delete(check);
      reject(new Error(`Not in time: ${holds}`));
    }, DEADLINE_MS);
    const check = () => {
      if (!holds()) return;
      looking.delete(check);
      clearTimeout(timer);
      resolve();
    };
    looking.add(check);
    check();
  });

  /** The details of an event, as they came. */
  globalThis.heard = (client, wanted) => client.seen.filter(([event]) => event === wanted).map(([, detail]) => detail);
})();
