package partdtest

import (
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd"
)

func (e *env) checkKeepsContent(name string, op func() error) {
	e.Helper()
	e.must(name+" of an empty store", op())
	e.check(name + " of an empty store")
	e.fill(100)
	if e.suite.can[CanSet] {
		e.set("empty", "")
	}
	for range 3 {
		e.must(name, op())
		e.check(name + " must change nothing")
		e.must(name, op())
		e.append(entry("key 1", "+"), entry("key 2", "+"))
		e.check("an append after " + name)
	}
	e.must(name, op())
	if e.suite.can[CanDelete] {
		e.delete("key 1", "empty")
		e.check("Delete after " + name)
	}
	if e.suite.can[CanPop] {
		e.append(entry("key 2", "+"))
		e.pop("key 2")
		e.check("Pop after " + name)
	}
	if e.suite.can[CanSet] {
		e.set("key 3", "set")
		e.setOnce("key 4", "once")
		e.check("Set and SetOnce after " + name)
	}
	e.drop()
	e.check("Drop after " + name)
	e.must(name, op())
	e.check(name + " after Drop")
}

func opsAfterClose(e *env) {
	e.append(entry("a", "1"))
	sessionOps := e.sessionOps()
	e.withTimeout("Close", func() error { return partd.Close(e.ctx, e.store) })
	e.closed = true
	isErrClosed := func(err error) bool { return errors.Is(err, partd.ErrClosed) }
	e.expectFailures("on a closed store must fail with ErrClosed", isErrClosed, append(sessionOps, []operation{
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
	}...))
	e.withTimeout("a second Close", func() error {
		for _, err := range []error{e.store.(io.Closer).Close(), partd.Close(e.ctx, e.store)} {
			if err != nil && !isErrClosed(err) {
				return err
			}
		}
		return nil
	})
}

func closeUnused(e *env) {
	e.withTimeout("Close of an unused store", func() error { return partd.Close(e.ctx, e.store) })
	e.closed = true
}

// closeCancelled checks that Close closes the store even if its context is canceled, and that no data is lost
// if the store can be opened again.
func closeCancelled(e *env) {
	e.fill(30)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.withTimeout("Close with a canceled context", func() error {
		if err := partd.Close(ctx, e.store); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	e.closed = true
	if err := e.store.Append(e.ctx, entry("a", "1")); !errors.Is(err, partd.ErrClosed) {
		e.Fatalf("Append after Close with a canceled context: error %v, want ErrClosed", err)
	}
	if e.reopen() {
		e.closed = false
		e.check("after Close with a canceled context and reopening")
	}
}

func reopenRepeatedly(e *env) {
	if !e.reopen() {
		e.Logf("not checked: Options.Reopen is nil")
		return
	}
	e.check("an empty store after reopening")
	e.fill(100)
	for i := range 5 {
		e.append(entry("key 1", "+"), entry("key 10", "+"), entry(".lock", "+"))
		if e.suite.can[CanSet] && i == 1 {
			e.set("key 2", "set")
		}
		if e.suite.can[CanDelete] && i == 2 {
			e.delete("key 3", "key 9")
		}
		if e.suite.can[CanPop] && i == 3 {
			e.pop("key 4")
		}
		e.checkReopened()
	}
	e.drop()
	e.append(entry("after", "1"))
	e.reopen()
	e.check("after a Drop, an append and reopening")
	e.drop()
	e.reopen()
	e.check("after a Drop and reopening")
}

// reopenAfterClose checks that Options.Reopen also works after Close.
func reopenAfterClose(e *env) {
	if e.suite.opts.Reopen == nil || !e.suite.can[CanClose] {
		e.Logf("not checked: needs Options.Reopen and a store that can be closed")
		return
	}
	e.fill(30)
	e.must("Close", partd.Close(e.ctx, e.store))
	e.reopen()
	e.check("after Close and reopening")
}
