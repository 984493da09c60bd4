import { useEffect, useReducer, useRef } from "preact/hooks";

// Clock shows the seconds since a time (as from performance.now()) or, by default, since it was first shown.
export function Clock({ since }: { since?: number }) {
  const first = useRef(performance.now());
  const [, tick] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const timer = setInterval(() => tick(0), 100);
    return () => clearInterval(timer);
  }, []);
  return <span class="clock" role="timer">{((performance.now() - (since ?? first.current)) / 1000).toFixed(1)} s</span>;
}
