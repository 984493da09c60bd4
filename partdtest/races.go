package partdtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// concurrentDrop drops while other goroutines append. After a Drop, all appends that returned before
// the Drop began must be gone. No append that began after the Drop may be missing.
func concurrentDrop(e *env) {
	const appendsPerDrop, numDrops, numKeys = 40, 8, 3
	var acked [writers]atomic.Int64 // number of appends of each writer that have returned
	var allowed atomic.Int64        // number of appends that each writer may make before the next Drop
	var stopped atomic.Bool         // set after the last Drop, or after a failure
	allowed.Store(appendsPerDrop)
	check := func(minPieceNumbers [writers]int64) error {
		values, err := e.store.Get(e.ctx, numberedKeys(numKeys)...)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		for i, v := range values {
			pieces, err := parsePart(v)
			if err != nil {
				return fmt.Errorf("key %q, during appends and Drops: %w", numberedKeys(numKeys)[i], err)
			}
			for _, p := range pieces {
				if int64(p.number) < minPieceNumbers[p.writer] {
					return fmt.Errorf("key %q still holds append %d of writer %d, which a Drop should have removed", numberedKeys(numKeys)[i], p.number, p.writer)
				}
			}
		}
		return nil
	}
	batch := func(w, n int) (entries []partd.Entry) {
		for _, k := range numberedKeys(numKeys) {
			entries = append(entries, piece{w, n}.entry(k))
		}
		return entries
	}
	appenders := writerCalls(func(w int) error {
		for n := 0; !stopped.Load(); {
			if int64(n) == allowed.Load() {
				time.Sleep(20 * time.Microsecond)
				continue
			}
			if err := e.store.Append(e.ctx, batch(w, n)...); err != nil {
				stopped.Store(true)
				return fmt.Errorf("append: %w", err)
			}
			n++
			acked[w].Store(int64(n))
		}
		return nil
	})
	var minPieceNumbers [writers]int64
	e.concurrently(append(appenders, func() error {
		defer stopped.Store(true)
		for range numDrops {
			for w := range writers {
				for acked[w].Load() < allowed.Load()-appendsPerDrop/2 && !stopped.Load() {
					time.Sleep(20 * time.Microsecond)
				}
				minPieceNumbers[w] = acked[w].Load()
			}
			allowed.Add(appendsPerDrop) // appends continue during Drop
			if err := e.store.Drop(e.ctx); err != nil {
				return fmt.Errorf("drop: %w", err)
			}
			for range 3 {
				if err := check(minPieceNumbers); err != nil {
					return err
				}
			}
		}
		return nil
	})...)
	e.must("after the last Drop", check(minPieceNumbers))
	// Let each writer append once more: parsePart then finds a gap if the writer's previous append is missing.
	for w := range writers {
		e.append(batch(w, int(acked[w].Load()))...)
	}
	e.must("after the last Drop and another append", check(minPieceNumbers))
}

func concurrentSetOnce(e *env) {
	for round := range 20 {
		key := fmt.Sprintf("once %d", round)
		var mu sync.Mutex
		seen := map[string]bool{}
		e.concurrently(writerCalls(func(w int) error {
			if err := partd.SetOnce(e.ctx, e.store, key, piece{w, round}.bytes()); err != nil {
				return fmt.Errorf("set once: %w", err)
			}
			values, err := e.store.Get(e.ctx, key)
			if err != nil {
				return fmt.Errorf("get: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[string(values[0])] = true
			return nil
		})...)
		seen[string(e.get(key)[0])] = true
		if len(seen) != 1 {
			e.Fatalf("after SetOnce of a key in %d goroutines, %d different values were seen, want one winner", writers, len(seen))
		}
		for v := range seen {
			if pieces, err := parsePieces([]byte(v)); err != nil || len(pieces) != 1 {
				e.Fatalf("after SetOnce in several goroutines the value is %q, which no goroutine has set", v)
			}
		}
	}
}

// concurrentSet sets and appends concurrently. Each value that a reader sees must be a value that was
// set, followed by whole appends.
func concurrentSet(e *env) {
	valid := func(v []byte) error {
		setValue := strings.TrimRight(string(v), "+")
		if len(setValue) > 0 {
			c := setValue[0]
			if c < 'a' || c > 'z' || setValue != repeat(string(rune(c)), 50+1000*int(c-'a')) {
				return fmt.Errorf("a value of %d bytes is not a set value followed by appends: %.60q", len(v), v)
			}
		}
		if (len(v)-len(setValue))%2 != 0 {
			return fmt.Errorf("a value ends with half of an append: %.60q", v)
		}
		return nil
	}
	e.whileRunning(writerCalls(func(w int) error {
		for n := range 60 {
			var err error
			if w%2 == 0 {
				i := (n*7 + w) % 10
				err = partd.Set(e.ctx, e.store, "a", []byte(repeat(string(rune('a'+i)), 50+1000*i)))
			} else {
				err = e.store.Append(e.ctx, entry("a", "++"))
			}
			if err != nil {
				return fmt.Errorf("set or append: %w", err)
			}
		}
		return nil
	}), func() error {
		values, err := e.store.Get(e.ctx, "a")
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		return valid(values[0])
	})
	e.set("a", "last")
	e.check("Set after all other operations")
}

// concurrentPop pops while other goroutines append. Each piece must be popped exactly once.
func concurrentPop(e *env) {
	const appendsPerWriter = 150
	keys := numberedKeys(2)
	var mu sync.Mutex
	popped := map[string][]piece{}
	popAll := func() error {
		values, err := partd.Pop(e.ctx, e.store, keys...)
		if err != nil {
			return fmt.Errorf("pop: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, v := range values {
			pieces, err := parsePart(v)
			if err != nil {
				return fmt.Errorf("pop: %w", err)
			}
			popped[keys[i]] = append(popped[keys[i]], pieces...)
		}
		return nil
	}
	e.whileRunning(writerCalls(func(w int) error {
		for n := range appendsPerWriter {
			p := piece{w, n}
			if err := e.store.Append(e.ctx, p.entry(keys[0]), p.entry(keys[1])); err != nil {
				return fmt.Errorf("append: %w", err)
			}
		}
		return nil
	}), popAll, popAll)
	e.must("the last Pop", popAll())
	for _, k := range keys {
		pieces := popped[k]
		slices.SortFunc(pieces, func(a, b piece) int { return cmp.Or(cmp.Compare(a.writer, b.writer), cmp.Compare(a.number, b.number)) })
		if next, err := checkSequence(pieces, true); err != nil {
			e.Fatalf("all Pops of key %q together: %v", k, err)
		} else if len(pieces) != writers*appendsPerWriter {
			e.Fatalf("all Pops of key %q together returned %d appends, want %d: %v", k, len(pieces), writers*appendsPerWriter, next)
		}
	}
	e.check("after the last Pop")
}

// concurrentPopOfOneValue pops a value in several goroutines. Exactly one of them must get it, as a whole.
func concurrentPopOfOneValue(e *env) {
	for n := range 20 {
		want := repeat(strconv.Itoa(n), 1000)
		e.must("Append", e.store.Append(e.ctx, entry("a", want)))
		var popped [writers]string
		e.withTimeout("Pop", func() error {
			return runAll(writerCalls(func(w int) error {
				values, err := partd.Pop(e.ctx, e.store, "a")
				if err == nil {
					popped[w] = string(values[0])
				}
				return err
			}))
		})
		slices.Sort(popped[:])
		if popped != [writers]string{writers - 1: want} {
			e.Fatalf("one Pop must return the value and all others nothing, but they returned %.60q", popped)
		}
	}
	e.check("after the last Pop")
}

// concurrentClose closes the store while other goroutines append. Each append must either fail with
// ErrClosed, or succeed and still exist after reopening.
func concurrentClose(e *env) {
	var acked [writers]int
	started := make(chan struct{}, writers)
	runs := writerCalls(func(w int) error {
		for n := range 20_000 {
			if n > 1000 {
				// Slow down, so that even a fast store still has appends to do when Close runs.
				time.Sleep(time.Millisecond)
			}
			err := e.store.Append(e.ctx, piece{w, n}.entry("a"))
			if n == 20 || err != nil && n < 20 {
				started <- struct{}{}
			}
			if errors.Is(err, partd.ErrClosed) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("append during Close must succeed or fail with ErrClosed: %w", err)
			}
			acked[w] = n + 1
		}
		return fmt.Errorf("writer %d: no Append failed although the store is closed", w)
	})
	e.withTimeout("Close during appends", func() error {
		return runAll(append(runs, func() error {
			for range writers {
				<-started
			}
			return partd.Close(e.ctx, e.store)
		}))
	})
	e.closed = true
	if e.suite.opts.Reopen == nil {
		return
	}
	e.closed = false
	e.reopen()
	next, err := checkPieces("after Close and reopening", e.get("a")[0])
	e.must("concurrent Close", err)
	for w, n := range acked {
		if next[w] < n {
			e.Fatalf("writer %d: %d appends were acknowledged before Close, but only %d exist after reopening", w, n, next[w])
		}
	}
}
