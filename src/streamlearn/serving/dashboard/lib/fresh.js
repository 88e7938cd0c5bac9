// When to fetch a page's document again: it changes along with its model, but not each time that the model does.

/** A function that calls `load` when it is called itself, but once in `every` milliseconds, and not while nobody looks. */
export function refresher(load, every) {
  let at = performance.now();
  let busy = false;
  return async () => {
    if (busy || document.hidden || performance.now() - at < every) return;
    busy = true;
    try {
      await load();
    } finally {
      busy = false;
      at = performance.now();
    }
  };
}
