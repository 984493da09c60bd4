package partdtest

import (
	"errors"

	"github.com/go-partd/partd"
)

func lifeChecks() []check {
	return []check{
		{name: "flush", requires: []Ability{CanFlush}, run: func(e *env) { e.checkKeepsContent("Flush", func() error { return partd.Flush(e.ctx, e.store) }) }},
		{name: "sync", requires: []Ability{CanSync}, run: func(e *env) { e.checkKeepsContent("Sync", func() error { return partd.Sync(e.ctx, e.store) }) }},
		{name: "close", requires: []Ability{CanClose}, run: closedOps},
		{name: "close-empty", requires: []Ability{CanClose}, run: closeUnused},
	}
}

func reopenChecks() []check {
	return []check{
		{name: "reopen", run: reopenRepeatedly},
		{name: "reopen-after-close", run: reopenAfterClose},
	}
}

func (e *env) checkKeepsContent(name string, op func() error) {
	e.Helper()
	e.must(name+" of an empty store", op())
	e.want(name+" of an empty store", nil)
	want := e.fill(100)
	if e.suite.can[CanSet] {
		e.set("empty", "")
		want["empty"] = ""
	}
	for range 3 {
		e.must(name, op())
		e.want(name+" must change nothing", want)
		e.must(name, op())
		e.append(entry("key 1", "+"), entry("key 2", "+"))
		want["key 1"] += "+"
		want["key 2"] += "+"
		e.want("an append after "+name, want)
	}
	e.must(name, op())
	if e.suite.can[CanDelete] {
		e.must("Delete", partd.Delete(e.ctx, e.store, "key 1", "empty"))
		delete(want, "key 1")
		delete(want, "empty")
		e.want("Delete after "+name, want)
	}
	if e.suite.can[CanPop] {
		e.append(entry("key 2", "+"))
		e.must("Pop", differenceError("Pop after "+name, e.pop("key 2")[0], want["key 2"]+"+"))
		delete(want, "key 2")
		e.want("Pop after "+name, want)
	}
	if e.suite.can[CanSet] {
		e.set("key 3", "set")
		want["key 3"] = "set"
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, "key 4", []byte("once")))
		e.want("Set and SetOnce after "+name, want)
	}
	e.must("Drop", e.store.Drop(e.ctx))
	e.want("Drop after "+name, nil)
	e.must(name, op())
	e.want(name+" after Drop", nil)
}

func closedOps(e *env) {
	e.append(entry("a", "1"))
	e.withTimeout("Close", func() error { return partd.Close(e.ctx, e.store) })
	e.closed = true
	for _, op := range []struct {
		name string
		try  func() error
	}{
		{"Append", func() error { return e.store.Append(e.ctx, entry("a", "2")) }},
		{"Get", func() error { _, err := e.store.Get(e.ctx, "a"); return err }},
		{"Drop", func() error { return e.store.Drop(e.ctx) }},
		{"Set", func() error { return partd.Set(e.ctx, e.store, "a", []byte("3")) }},
		{"SetOnce", func() error { return partd.SetOnce(e.ctx, e.store, "b", []byte("4")) }},
		{"Delete", func() error { return partd.Delete(e.ctx, e.store, "a") }},
		{"Pop", func() error { _, err := partd.Pop(e.ctx, e.store, "a"); return err }},
		{"Keys", func() error { _, err := listKeys(e.ctx, e.store); return err }},
		{"Scan", func() error { _, err := scanAll(e.ctx, e.store); return err }},
		{"Open", func() error { _, err := openAll(e.ctx, e.store, "a", 10); return err }},
		{"Stat", func() error { _, err := partd.Stat(e.ctx, e.store); return err }},
		{"Flush", func() error { return partd.Flush(e.ctx, e.store) }},
		{"Sync", func() error { return partd.Sync(e.ctx, e.store) }},
	} {
		if err := op.try(); !errors.Is(err, partd.ErrClosed) && !errors.Is(err, errors.ErrUnsupported) {
			e.Errorf("%s on a closed store must fail with ErrClosed: %v", op.name, err)
		}
	}
	e.withTimeout("a second Close", func() error {
		if err := partd.Close(e.ctx, e.store); !errors.Is(err, partd.ErrClosed) {
			return err
		}
		return nil
	})
}

func closeUnused(e *env) {
	e.withTimeout("Close of an unused store", func() error { return partd.Close(e.ctx, e.store) })
	e.closed = true
}

func reopenRepeatedly(e *env) {
	if !e.reopen() {
		e.Logf("not checked: Options.Reopen is nil")
		return
	}
	e.want("an empty store after reopening", nil)
	want := e.fill(100)
	for i := range 5 {
		e.append(entry("key 1", "+"), entry("key 10", "+"), entry(".lock", "+"))
		want["key 1"] += "+"
		want["key 10"] += "+"
		want[".lock"] += "+"
		if e.suite.can[CanSet] && i == 1 {
			e.set("key 2", "set")
			want["key 2"] = "set"
		}
		if e.suite.can[CanDelete] && i == 2 {
			e.must("Delete", partd.Delete(e.ctx, e.store, "key 3", "key 9"))
			delete(want, "key 3")
			delete(want, "key 9")
		}
		if e.suite.can[CanPop] && i == 3 {
			e.pop("key 4")
			delete(want, "key 4")
		}
		e.reopen()
		e.want("after reopening", want)
	}
	e.must("Drop", e.store.Drop(e.ctx))
	e.append(entry("after", "1"))
	e.reopen()
	e.want("an append after Drop, and reopening", model{"after": "1"})
	e.must("Drop", e.store.Drop(e.ctx))
	e.reopen()
	e.want("Drop, and reopening", nil)
}

// reopenAfterClose checks that Options.Reopen also works after Close.
func reopenAfterClose(e *env) {
	if e.suite.opts.Reopen == nil || !e.suite.can[CanClose] {
		e.Logf("not checked: needs Options.Reopen and a store that can be closed")
		return
	}
	want := e.fill(30)
	e.must("Close", partd.Close(e.ctx, e.store))
	e.reopen()
	e.want("after Close and reopening", want)
}
