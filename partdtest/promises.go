package partdtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
)

func getOrder(e *env) {
	keys := numberedKeys(50)
	for i, k := range keys {
		e.append(entry(k, k+" has this"))
		if i%7 == 0 {
			e.append(entry("between", "x"))
		}
	}
	requested := slices.Clone(keys)
	slices.Reverse(requested)
	e.checkGet(append(requested[20:], requested[:20]...)...)
}

func getTwice(e *env) {
	e.append(entry("a", "one"), entry("b", "two"))
	values := e.checkGet("a", "b", "a", "missing", "missing", "a")
	clear(values[0])
	if string(values[2]) != "one" || string(values[5]) != "one" {
		e.Fatalf("Get returned the same memory twice for a repeated key, but the caller owns each value")
	}
}

func getNothing(e *env) {
	for range 2 {
		values, err := e.store.Get(e.ctx)
		if err != nil || len(values) != 0 {
			e.Fatalf("Get without keys returned %q, %v", values, err)
		}
		e.append(entry("a", "1"))
	}
}

func getMissing(e *env) {
	e.checkGet("a", "b", "")
	e.check("Get creates no key")
	e.append(entry("b", "1"))
	e.checkGet("a", "b", "c")
}

func getOwnership(e *env) {
	for k, v := range map[string]string{"a": repeat("a", 10), "b": repeat("b", 3000), "c": repeat("c", 200_000)} {
		e.append(entry(k, v[:len(v)/2]), entry(k, v[len(v)/2:]))
	}
	values := e.get("a", "b", "c")
	for _, v := range values {
		overwrite(v)
	}
	e.check("after the caller changed the result of Get and appended to it")
	e.append(entry("a", "more"))
	for _, v := range values {
		if string(v[:10]) != repeat("!", 10) {
			e.Fatalf("an Append changed the result of Get, but the caller owns it")
		}
	}
	e.check("after another Append")
}

func appendOrder(e *env) {
	for i := range 500 {
		e.append(entry(numberedKeys(3)[i%3], string(rune('0'+i%10))))
		if i%100 == 99 {
			e.check("a value consists of its appends in order")
		}
	}
}

// errSibling is the cause of the checks' cancelled contexts. It wraps ErrUnknownOutcome, as if
// another goroutine's operation had failed.
var errSibling = fmt.Errorf("another goroutine's operation failed: %w", partd.ErrUnknownOutcome)

func cancelledContext(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	cancel(errSibling)
	return ctx
}

// isCancelledError reports whether err is a correct error for a context that was cancelled with
// errSibling. A correct error wraps errSibling, but not the ErrUnknownOutcome in it, because the
// store's own operation had no effect.
func isCancelledError(err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(err, errSibling) && !errors.Is(err, partd.ErrUnknownOutcome)
}

func cancelledChanges(e *env) {
	ctx := cancelledContext(e.ctx)
	e.append(entry("a", "1"))
	rule := "with a cancelled context must fail with an error that wraps context.Canceled and the cause, but not the ErrUnknownOutcome in the cause"
	e.expectFailures(rule, isCancelledError, []operation{
		{"Append", func() error { return e.store.Append(ctx, entry("a", "2"), entry("b", "3")) }},
		{"Set", func() error { return partd.Set(ctx, e.store, "a", []byte("4")) }},
		{"SetOnce", func() error { return partd.SetOnce(ctx, e.store, "b", []byte("5")) }},
		{"Delete", func() error { return partd.Delete(ctx, e.store, "a") }},
		{"Pop", func() error { _, err := partd.Pop(ctx, e.store, "a"); return err }},
		{"Drop", func() error { return e.store.Drop(ctx) }},
	})
}

// cancelledReads checks reads with a cancelled context. The reads may ignore the context and
// succeed.
func cancelledReads(e *env) {
	ctx := cancelledContext(e.ctx)
	e.append(entry("a", "1"), entry("b", repeat("b", 100_000)))
	reads := []func() error{
		func() error { return compare(ctx, e.store, nil, e.model) },
		func() error { _, err := openAll(ctx, e.store, "b", 1000); return err },
	}
	// Separate reads, because compare stops at the first error.
	for _, c := range comparisons {
		if e.suite.can[c.ability] {
			reads = append(reads, func() error { return c.compare(ctx, e.store, e.model) })
		}
	}
	for _, read := range reads {
		if err := read(); err != nil && !isCancelledError(err) {
			e.Errorf("a read with a cancelled context must succeed, or fail with an error that wraps context.Canceled and the cause: %v", err)
		}
	}
	e.check("after cancelled reads")
}

func drop(e *env) {
	e.drop()
	for i := range 3 {
		for _, k := range append(numberedKeys(20), "", ".lock", "a/b", repeat("k", 300)) {
			e.append(entry(k, repeat("v", i*1000+len(k)+1)))
		}
		e.check("before Drop")
		e.drop()
		e.check("after Drop")
		if i == 1 {
			e.checkReopened()
		}
		e.append(entry("a", "new"))
		e.check("an append after Drop")
		e.drop()
		e.drop()
	}
}
