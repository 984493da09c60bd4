package partdtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// raceChecks let operations other than Append and Get run at the same time.
func raceChecks() []check {
	return []check{
		{name: "concurrent-drop", run: concurrentDrop},
		{name: "concurrent-set-once", needs: []Ability{CanSet}, run: concurrentSetOnce},
		{name: "concurrent-set", needs: []Ability{CanSet}, run: concurrentSet},
		{name: "concurrent-pop", needs: []Ability{CanPop}, run: concurrentPop},
		{name: "concurrent-close", needs: []Ability{CanClose}, run: concurrentClose},
	}
}

// concurrentDrop drops while others append: what was acknowledged before a Drop
// began is gone once it has returned, and of what came later nothing is missing.
func concurrentDrop(e *env) {
	const each, drops, keys = 40, 8, 3
	var acked [writers]atomic.Int64 // how many appends have returned
	var allowed atomic.Int64        // how many a writer may do so far, so that all last until the last Drop
	var over atomic.Bool            // the last Drop has returned, or something failed
	allowed.Store(each)
	check := func(least [writers]int64) error {
		values, err := e.store.Get(e.ctx, numberedKeys(keys)...)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		for i, v := range values {
			pieces, err := parsePieces(v)
			if err == nil {
				_, err = inSequence(pieces, false)
			}
			if err != nil {
				return fmt.Errorf("key %q, while others append and drop: %w", numberedKeys(keys)[i], err)
			}
			for _, p := range pieces {
				if int64(p.number) < least[p.writer] {
					return fmt.Errorf("key %q has append %d of writer %d, which was there before the Drop that has returned", numberedKeys(keys)[i], p.number, p.writer)
				}
			}
		}
		return nil
	}
	var write []func() error
	for w := range writers {
		write = append(write, func() error {
			for n := 0; !over.Load(); {
				if int64(n) == allowed.Load() {
					time.Sleep(20 * time.Microsecond)
					continue
				}
				var batch []partd.Entry
				for _, k := range numberedKeys(keys) {
					batch = append(batch, partd.Entry{Key: k, Value: piece{w, n}.bytes()})
				}
				if err := e.store.Append(e.ctx, batch...); err != nil {
					over.Store(true)
					return fmt.Errorf("append: %w", err)
				}
				n++
				acked[w].Store(int64(n))
			}
			return nil
		})
	}
	var least [writers]int64
	e.together(append(write, func() error {
		defer over.Store(true)
		for range drops {
			for w := range writers {
				for acked[w].Load() < allowed.Load()-each/2 && !over.Load() {
					time.Sleep(20 * time.Microsecond)
				}
				least[w] = acked[w].Load()
			}
			allowed.Add(each) // something to do while Drop is under way
			if err := e.store.Drop(e.ctx); err != nil {
				return fmt.Errorf("drop: %w", err)
			}
			for range 3 {
				if err := check(least); err != nil {
					return err
				}
			}
		}
		return nil
	})...)
	e.must("after the last Drop", check(least))
	// One more append of each writer shows whether one before it is missing.
	for w := range writers {
		for _, k := range numberedKeys(keys) {
			e.append(partd.Entry{Key: k, Value: piece{w, int(acked[w].Load())}.bytes()})
		}
	}
	e.must("after the last Drop and another append", check(least))
}

func concurrentSetOnce(e *env) {
	for round := range 20 {
		key := fmt.Sprintf("once %d", round)
		var mu sync.Mutex
		seen := map[string]bool{}
		var run []func() error
		for w := range writers {
			run = append(run, func() error {
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
			})
		}
		e.together(run...)
		seen[string(e.get(key)[0])] = true
		if len(seen) != 1 {
			e.Fatalf("%d goroutines set a key once, and %d different values were seen afterwards: there must be one winner", writers, len(seen))
		}
		for v := range seen {
			if pieces, err := parsePieces([]byte(v)); err != nil || len(pieces) != 1 {
				e.Fatalf("a key that several goroutines set once has the value %q, which none has set", v)
			}
		}
	}
}

// concurrentSet sets and appends: readers see a whole value that was set, and
// whole appends behind it.
func concurrentSet(e *env) {
	valid := func(v []byte) error {
		text := strings.TrimRight(string(v), "+")
		if len(text) > 0 {
			c := text[0]
			if c < 'a' || c > 'z' || text != repeat(string(rune(c)), 50+1000*int(c-'a')) {
				return fmt.Errorf("a value of %d bytes is none that was set, with appends behind it: %.60q", len(v), v)
			}
		}
		if (len(v)-len(text))%2 != 0 {
			return fmt.Errorf("half of an append was seen")
		}
		return nil
	}
	var run []func() error
	for w := range 4 {
		run = append(run, func() error {
			for n := range 60 {
				var err error
				if w < 2 {
					i := (n*7 + w) % 10
					err = partd.Set(e.ctx, e.store, "a", []byte(repeat(string(rune('a'+i)), 50+1000*i)))
				} else {
					err = e.store.Append(e.ctx, entry("a", "++"))
				}
				if err != nil {
					return fmt.Errorf("set or Append: %w", err)
				}
			}
			return nil
		})
	}
	e.whileRunning(run, []func() error{func() error {
		values, err := e.store.Get(e.ctx, "a")
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		return valid(values[0])
	}})
	e.set("a", "last")
	e.want("Set after all others", model{"a": "last"})
}

// concurrentPop pops while others append: each piece comes out once.
func concurrentPop(e *env) {
	const each = 150
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
			pieces, err := parsePieces(v)
			if err == nil {
				_, err = inSequence(pieces, false)
			}
			if err != nil {
				return fmt.Errorf("pop: %w", err)
			}
			popped[keys[i]] = append(popped[keys[i]], pieces...)
		}
		return nil
	}
	var run []func() error
	for w := range writers {
		run = append(run, func() error {
			for n := range each {
				p := piece{w, n}.bytes()
				if err := e.store.Append(e.ctx, partd.Entry{Key: keys[0], Value: p}, partd.Entry{Key: keys[1], Value: p}); err != nil {
					return fmt.Errorf("append: %w", err)
				}
			}
			return nil
		})
	}
	e.whileRunning(run, []func() error{popAll, popAll})
	e.must("the last Pop", popAll())
	for _, k := range keys {
		all := popped[k]
		slices.SortFunc(all, func(a, b piece) int { return (a.writer-b.writer)*longestSequence/writers + a.number - b.number })
		if next, err := inSequence(all, true); err != nil {
			e.Fatalf("all Pops of key %q together: %v", k, err)
		} else if len(all) != writers*each {
			e.Fatalf("all Pops of key %q together have %d appends of %d: %v", k, len(all), writers*each, next)
		}
	}
	e.want("after the last Pop", nil)
}

// concurrentClose closes while others append: an append either is acknowledged,
// and then there after opening again, or fails with ErrClosed.
func concurrentClose(e *env) {
	var acked [writers]int
	started := make(chan struct{}, writers)
	var run []func() error
	for w := range writers {
		run = append(run, func() error {
			for n := range 20_000 {
				if n > 1000 {
					// However fast the store is, the others get to begin, and Close.
					time.Sleep(time.Millisecond)
				}
				err := e.store.Append(e.ctx, partd.Entry{Key: "a", Value: piece{w, n}.bytes()})
				if n == 20 || err != nil && n < 20 {
					started <- struct{}{}
				}
				if errors.Is(err, partd.ErrClosed) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("append while the store is closed must work or fail with ErrClosed: %w", err)
				}
				acked[w] = n + 1
			}
			return fmt.Errorf("writer %d: no Append has noticed that the store is closed", w)
		})
	}
	e.within("Close while others append", func() error {
		errs := make(chan error, 1)
		go func() {
			for range writers {
				<-started
			}
			errs <- partd.Close(e.ctx, e.store)
		}()
		var wg sync.WaitGroup
		all := make([]error, writers)
		for i, f := range run {
			wg.Go(func() { all[i] = f() })
		}
		wg.Wait()
		return errors.Join(append(all, <-errs)...)
	})
	e.closed = true
	if e.suite.opts.Reopen == nil {
		return
	}
	e.closed = false
	e.reopen()
	next, err := checkPieces("after Close and opening again", e.get("a")[0])
	e.must("concurrent Close", err)
	for w, n := range acked {
		if next[w] < n {
			e.Fatalf("writer %d: %d appends were acknowledged before Close, %d are there after opening again", w, n, next[w])
		}
	}
}
