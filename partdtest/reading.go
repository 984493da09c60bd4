package partdtest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd"
)

// listChecks returns checks of Keys and Stat. Every comparison with a model also calls Keys and Stat.
func listChecks() []check {
	return []check{
		{name: "keys-break", requires: []Ability{CanList}, run: keysBreak},
		{name: "keys-body-uses-store", requires: []Ability{CanList}, run: keysBody},
		{name: "keys-cancelled", requires: []Ability{CanList}, run: keysCancelled},
		{name: "stat", requires: []Ability{CanStat}, run: stat},
	}
}

func openChecks() []check {
	return []check{
		{name: "open", run: openStreams},
		{name: "open-snapshot", run: openSnapshot},
		{name: "open-close-early", run: openCloseEarly},
	}
}

// fill appends values to n keys, and returns them. Every tenth value is large.
func (e *env) fill(n int) model {
	e.Helper()
	want := model{}
	var batch []partd.Entry
	for i, k := range numberedKeys(n) {
		want[k] = string(randomBytes(1+i%50+i%10/9*100_000, uint64(i)))
		batch = append(batch, entry(k, want[k]))
	}
	e.append(batch...)
	return want
}

func keysBreak(e *env) {
	want := e.fill(200)
	e.withTimeout("use of the store after a break out of Keys", func() error {
		for _, limit := range []int{1, 2, 100, 199} {
			n := 0
			for _, err := range partd.Keys(e.ctx, e.store) {
				if err != nil {
					return err
				}
				if n++; n == limit {
					break
				}
			}
			if n != limit {
				return fmt.Errorf("the Keys iterator yielded %d keys, want at least %d", n, limit)
			}
		}
		return e.store.Append(e.ctx, entry("a", "1"))
	})
	want["a"] = "1"
	e.want("after a break out of Keys", want)
}

func keysBody(e *env) {
	want := e.fill(50)
	e.withTimeout("a loop over Keys that gets, appends and deletes", func() error {
		n := 0
		for info, err := range partd.Keys(e.ctx, e.store) {
			if err != nil {
				return err
			}
			v, err := e.store.Get(e.ctx, info.Key)
			if err != nil {
				return err
			}
			if _, filled := want[info.Key]; !filled {
				continue // this loop created the key
			}
			n++
			if err := differenceError("Get in a loop over Keys", v[0], want[info.Key]); err != nil {
				return err
			}
			if err := e.store.Append(e.ctx, entry("created in the loop", "x")); err != nil {
				return err
			}
			if e.suite.can[CanDelete] {
				if err := partd.Delete(e.ctx, e.store, info.Key); err != nil {
					return err
				}
			}
		}
		if n != len(want) {
			return fmt.Errorf("the Keys iterator yielded %d of %d keys while the loop deleted them", n, len(want))
		}
		return nil
	})
	if e.suite.can[CanDelete] {
		clear(want)
	}
	want["created in the loop"] = repeat("x", 50)
	e.want("after a loop over Keys", want)
}

func keysCancelled(e *env) {
	want := e.fill(500)
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	n := 0
	var keysErr error
	for info, err := range partd.Keys(ctx, e.store) {
		if keysErr != nil {
			e.Fatalf("Keys continues after its error %v", keysErr)
		}
		if keysErr = err; err == nil {
			n++
			if _, ok := want[info.Key]; !ok {
				e.Fatalf("Keys yields key %s, which does not exist", partd.QuoteKey(info.Key))
			}
		}
		cancel(errSibling)
	}
	if keysErr == nil && n != len(want) || keysErr != nil && !isCancelledError(keysErr) {
		e.Fatalf("Keys, cancelled after the first key, yielded %d of %d keys and the error %v", n, len(want), keysErr)
	}
	e.want("after a cancelled Keys", want)
}

func stat(e *env) {
	want := e.fill(20)
	stats, err := partd.Stat(e.ctx, e.store)
	e.must("Stat", err)
	if stats.Memory < 0 || stats.Disk < 0 {
		e.Fatalf("Stat: %+v", stats)
	}
	e.want("Stat counts keys and bytes", want)
	if m, ok := e.store.(partd.MemoryUser); ok {
		if used := m.MemoryUsed(); used < 0 {
			e.Fatalf("MemoryUsed returned %d", used)
		}
	}
	e.append(entry("key 1", "more"), entry("", "new"))
	want["key 1"] += "more"
	want[""] = "new"
	e.want("Stat after an append", want)
	e.must("Drop", e.store.Drop(e.ctx))
	e.want("Stat after Drop", nil)
}

func openStreams(e *env) {
	want := e.fill(20)
	want["missing"] = ""
	for k, v := range want {
		for _, size := range []int{1000, 1, 1 << 20} {
			if size == 1 && len(v) > 1000 {
				continue
			}
			got, err := openAll(e.ctx, e.store, k, size)
			e.must("Open", err)
			e.must("Open", differenceError("Open of key "+partd.QuoteKey(k), got, v))
		}
	}
	r, err := partd.Open(e.ctx, e.store, "key 9")
	e.must("Open", err)
	if n, err := r.Read(nil); n != 0 || err != nil {
		e.Errorf("a Read of no bytes returned %d, %v", n, err)
	}
	got, err := io.ReadAll(r)
	e.must("Read", err)
	e.must("Open", differenceError("Open after a Read of no bytes", got, want["key 9"]))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		e.Errorf("a Read after the end returned %d, %v", n, err)
	}
	e.must("Close of a reader", r.Close())
	delete(want, "missing")
	e.want("Open changes nothing", want)
}

func openSnapshot(e *env) {
	changes := []struct {
		name    string
		ability Ability
		apply   func() error
	}{
		{"Append", "", func() error {
			return e.store.Append(e.ctx, entry("a", "appended"), entry("large", repeat("+", 50_000)))
		}},
		{"Set", CanSet, func() error {
			return errors.Join(partd.Set(e.ctx, e.store, "a", []byte("s")), partd.Set(e.ctx, e.store, "large", []byte("s")))
		}},
		{"Delete", CanDelete, func() error { return partd.Delete(e.ctx, e.store, "a", "large") }},
		{"Pop", CanPop, func() error { _, err := partd.Pop(e.ctx, e.store, "a", "large"); return err }},
		{"Drop", "", func() error { return e.store.Drop(e.ctx) }},
	}
	for _, c := range changes {
		if c.ability != "" && !e.suite.can[c.ability] {
			continue
		}
		e.must("Drop", e.store.Drop(e.ctx))
		want := model{"a": "value", "large": string(randomBytes(300_000, 1))}
		e.append(entry("a", want["a"]), entry("large", want["large"][:100_000]))
		e.append(entry("large", want["large"][100_000:]))
		e.withTimeout("Open, "+c.name+", and further reading", func() error {
			for k, v := range want {
				r, err := partd.Open(e.ctx, e.store, k)
				if err != nil {
					return err
				}
				head := make([]byte, len(v)/3)
				if _, err := io.ReadFull(r, head); err != nil {
					return errors.Join(err, r.Close())
				}
				if err := c.apply(); err != nil {
					return errors.Join(err, r.Close())
				}
				// New data must not overwrite the old value.
				if err := e.store.Append(e.ctx, entry("new", repeat("!", 300_000))); err != nil {
					return errors.Join(err, r.Close())
				}
				tail, err := readAll(r, k, 5000)
				if err != nil {
					return err
				}
				label := fmt.Sprintf("key %q, opened before %s", k, c.name)
				if err := differenceError(label, append(head, tail...), v); err != nil {
					return err
				}
				if err := e.store.Drop(e.ctx); err != nil {
					return err
				}
				if err := e.store.Append(e.ctx, entry("a", want["a"]), entry("large", want["large"])); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func openCloseEarly(e *env) {
	want := e.fill(20)
	for range 5 {
		for k := range want {
			r, err := partd.Open(e.ctx, e.store, k)
			e.must("Open", err)
			_, err = r.Read(make([]byte, 1))
			e.must("Read", err)
			e.must("Close of a reader", r.Close())
		}
	}
	e.withTimeout("use of the store after readers closed early", func() error {
		return e.store.Append(e.ctx, entry("a", "1"))
	})
	want["a"] = "1"
	e.want("readers closed early", want)
}
