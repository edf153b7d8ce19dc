// What is done with rows of numbers before they are drawn.

/** Carries a value on over at most so many that are missing, where another follows. */
export function fill(values: (number | null)[], most: number): (number | null)[] {
  if (most === 0) return values;
  const out = [...values];
  let last = -1;
  out.forEach((value, at) => {
    if (value === null) return;
    if (last !== -1 && at - last - 1 <= most) out.fill(out[last]!, last + 1, at);
    last = at;
  });
  return out;
}

/** The greatest value from a time on, over all rows. The first row is the times. */
export function peak(rows: ArrayLike<ArrayLike<number | null | undefined>>, from: number): number {
  const times = rows[0]!;
  let most = 0;
  for (let at = times.length - 1; at >= 0 && times[at]! >= from - 1; at -= 1) {
    for (let row = 1; row < rows.length; row += 1) most = Math.max(most, rows[row]![at] ?? 0);
  }
  return most;
}
