// Which scans a list still has, when it is asked for again while events arrive.

/** Ids of known scans that are gone: the newest ones, whole down to the oldest of them, lack them; `isAll`: there are no others. */
export function goneFrom(known, newest, isAll) {
  const there = new Set(newest.map((scan) => scan.scan_id));
  const oldest = newest.at(-1)?.created_at;
  return [...known].filter((scan) => !there.has(scan.scan_id) && (isAll || scan.created_at > oldest)).map((scan) => scan.scan_id);
}

/** What is heard while an answer is on its way is newer than the answer. */
export class Hearing {
  #open = new Set();

  heard(items) {
    for (const ids of this.#open) for (const item of items) ids.add(item.scan_id);
  }

  /** An answer, and a function that leaves out of scans what was heard since it was asked for. */
  async during(request) {
    const ids = new Set();
    this.#open.add(ids);
    try {
      return [await request, (scans) => scans.filter((scan) => !ids.has(scan.scan_id))];
    } finally {
      this.#open.delete(ids);
    }
  }
}
