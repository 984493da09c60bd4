package partdtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

func keysBreak(e *env) {
	e.fill(200)
	e.checkUsable("a break out of Keys", func() error {
		for _, limit := range []int{1, 2, 100, 199} {
			keys := 0
			err := breakOut(partd.Keys(e.ctx, e.store), func(n int, _ partd.KeyInfo) bool { keys = n; return n == limit })
			if err != nil {
				return err
			}
			if keys != limit {
				return fmt.Errorf("the Keys iterator yielded %d keys, want at least %d", keys, limit)
			}
		}
		return nil
	})
}

func keysBody(e *env) {
	e.fill(50)
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
			if _, filled := e.model[info.Key]; !filled {
				continue // this loop created the key
			}
			n++
			if err := differenceError("Get in a loop over Keys", v[0], e.model[info.Key]); err != nil {
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
		if n != len(e.model) {
			return fmt.Errorf("the Keys iterator yielded %d of %d keys while the loop deleted them", n, len(e.model))
		}
		return nil
	})
	if e.suite.can[CanDelete] {
		clear(e.model)
	}
	e.model["created in the loop"] = repeat("x", 50)
	e.check("after a loop over Keys")
}

func keysCancelled(e *env) {
	e.fill(500)
	list := func(ctx context.Context) iter.Seq2[partd.KeyInfo, error] { return partd.Keys(ctx, e.store) }
	checkCancelled(e, "Keys", len(e.model), list, func(info partd.KeyInfo) int {
		if _, ok := e.model[info.Key]; !ok {
			e.Fatalf("Keys yields key %s, which does not exist", storekit.QuoteKey(info.Key))
		}
		return 1
	})
	e.check("after a cancelled Keys")
}

func stat(e *env) {
	e.fill(20)
	stats, err := partd.Stat(e.ctx, e.store)
	e.must("Stat", err)
	if stats.Memory < 0 || stats.Disk < 0 {
		e.Fatalf("Stat: %+v", stats)
	}
	e.check("Stat counts keys and bytes")
	if m, ok := e.store.(partd.MemoryUser); ok {
		if used := m.MemoryUsed(); used < 0 {
			e.Fatalf("MemoryUsed returned %d", used)
		}
	}
	e.append(entry("key 1", "more"), entry("", "new"))
	e.check("Stat after an append")
	e.drop()
	e.check("Stat after Drop")
}

func openStreams(e *env) {
	e.fill(20)
	for _, k := range append(numberedKeys(20), "missing") {
		for _, size := range []int{1000, 1, 1 << 20} {
			if size > 1 || len(e.model[k]) <= 1000 {
				e.checkOpen(k, size)
			}
		}
	}
	r, err := partd.Open(e.ctx, e.store, "key 9")
	e.must("Open", err)
	if n, err := r.Read(nil); n != 0 || err != nil {
		e.Errorf("a Read of no bytes returned %d, %v", n, err)
	}
	got, err := io.ReadAll(r)
	e.must("Read", err)
	e.must("Open", differenceError("Open after a Read of no bytes", got, e.model["key 9"]))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		e.Errorf("a Read after the end returned %d, %v", n, err)
	}
	e.must("Close of a reader", r.Close())
	e.check("Open changes nothing")
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
		e.drop()
		want := map[string]string{"a": "value", "large": randomText(300_000, 1)}
		e.append(entry("a", want["a"]), entry("large", want["large"][:100_000]))
		e.append(entry("large", want["large"][100_000:]))
		e.withTimeout("Open, "+c.name+", and further reading", func() error {
			for k, v := range want {
				r, err := partd.Open(e.ctx, e.store, k)
				if err != nil {
					return err
				}
				head := make([]byte, len(v)/3)
				_, err = io.ReadFull(r, head)
				if err == nil {
					err = c.apply()
				}
				if err == nil { // new data must not overwrite the old value
					err = e.store.Append(e.ctx, entry("new", repeat("!", 300_000)))
				}
				if err != nil {
					return errors.Join(err, r.Close())
				}
				tail, err := readAll(r, k, 5000)
				if err == nil {
					err = differenceError(fmt.Sprintf("key %q, opened before %s", k, c.name), append(head, tail...), v)
				}
				if err == nil {
					err = e.store.Drop(e.ctx)
				}
				if err == nil {
					err = e.store.Append(e.ctx, entry("a", want["a"]), entry("large", want["large"]))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func openCloseEarly(e *env) {
	e.fill(20)
	e.checkUsable("readers closed early", func() error {
		for range 5 {
			for k := range e.model {
				r, err := partd.Open(e.ctx, e.store, k)
				if err != nil {
					return err
				}
				_, err = r.Read(make([]byte, 1))
				if err := errors.Join(err, r.Close()); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
