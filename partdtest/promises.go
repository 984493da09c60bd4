package partdtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
)

func promiseChecks() []check {
	return []check{
		{name: "get-order", run: getOrder},
		{name: "get-same-key-twice", run: getTwice},
		{name: "get-no-keys", run: getNothing},
		{name: "get-missing-keys", run: getMissing},
		{name: "get-result-ownership", run: getOwnership},
		{name: "append-order", run: appendOrder},
		{name: "cancelled-context-changes-nothing", run: cancelledChanges},
		{name: "cancelled-context-reads", run: cancelledReads},
		{name: "drop", run: drop},
	}
}

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
	requested = append(requested[20:], requested[:20]...)
	for i, v := range e.get(requested...) {
		if want := requested[i] + " has this"; string(v) != want {
			e.Fatalf("Get must return values in the order of the requested keys: value %d is %q, want %q", i, v, want)
		}
	}
}

func getTwice(e *env) {
	e.append(entry("a", "one"), entry("b", "two"))
	values := e.get("a", "b", "a", "missing", "missing", "a")
	for i, want := range []string{"one", "two", "one", "", "", "one"} {
		if string(values[i]) != want {
			e.Fatalf("Get of a key several times: value %d is %q, want %q", i, values[i], want)
		}
	}
	clear(values[0])
	if string(values[2]) != "one" || string(values[5]) != "one" {
		e.Fatalf("Get of a key several times returned the same memory, but each value belongs to the caller")
	}
}

func getNothing(e *env) {
	for range 2 {
		values, err := e.store.Get(e.ctx)
		if err != nil || len(values) != 0 {
			e.Fatalf("Get of no keys returned %q, %v", values, err)
		}
		e.append(entry("a", "1"))
	}
}

func getMissing(e *env) {
	for _, v := range e.get("a", "b", "") {
		if len(v) != 0 {
			e.Fatalf("a missing key has the value %q", v)
		}
	}
	e.want("Get creates no key", nil)
	e.append(entry("b", "1"))
	if v := e.get("a", "b", "c"); len(v[0]) != 0 || string(v[1]) != "1" || len(v[2]) != 0 {
		e.Fatalf("Get of a missing key, an existing key and a missing key returned %q", v)
	}
}

func getOwnership(e *env) {
	want := model{"a": repeat("a", 10), "b": repeat("b", 3000), "c": repeat("c", 200_000)}
	for k, v := range want {
		e.append(entry(k, v[:len(v)/2]), entry(k, v[len(v)/2:]))
	}
	values := e.get("a", "b", "c")
	for i, v := range values {
		for j := range v {
			v[j] = '!'
		}
		values[i] = append(v, "what follows in memory"...)
	}
	e.want("after the caller changed the result of Get and appended to it", want)
	e.append(entry("a", "more"))
	want["a"] += "more"
	for _, v := range values {
		for _, c := range v[:10] {
			if c != '!' {
				e.Fatalf("the result of Get belongs to the caller, but an Append changed it")
			}
		}
	}
	e.want("after another Append", want)
}

func appendOrder(e *env) {
	want := model{}
	for i := range 500 {
		k, v := numberedKeys(3)[i%3], string(rune('0'+i%10))
		e.append(entry(k, v))
		want[k] += v
		if i%100 == 0 {
			e.want("a value consists of its appends in order", want)
		}
	}
	e.want("a value consists of its appends in order", want)
}

// errSibling is the cause of the checks' cancelled contexts. It wraps ErrUnknownOutcome, as if
// another goroutine's operation had failed.
var errSibling = fmt.Errorf("another goroutine's operation failed: %w", partd.ErrUnknownOutcome)

func cancelledFor(parent context.Context) context.Context {
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
	ctx := cancelledFor(e.ctx)
	e.append(entry("a", "1"))
	for _, op := range []struct {
		name string
		try  func() error
	}{
		{"Append", func() error { return e.store.Append(ctx, entry("a", "2"), entry("b", "3")) }},
		{"Set", func() error { return partd.Set(ctx, e.store, "a", []byte("4")) }},
		{"SetOnce", func() error { return partd.SetOnce(ctx, e.store, "b", []byte("5")) }},
		{"Delete", func() error { return partd.Delete(ctx, e.store, "a") }},
		{"Pop", func() error { _, err := partd.Pop(ctx, e.store, "a"); return err }},
		{"Drop", func() error { return e.store.Drop(ctx) }},
	} {
		err := op.try()
		if !isCancelledError(err) && !errors.Is(err, errors.ErrUnsupported) {
			e.Errorf("%s with a cancelled context must fail with context.Canceled and the cause, and without the cause's ErrUnknownOutcome: %v", op.name, err)
		}
		e.want(op.name+" with a cancelled context must change nothing", model{"a": "1"})
	}
}

// cancelledReads checks reads with a cancelled context. The reads may ignore the context and
// succeed.
func cancelledReads(e *env) {
	ctx := cancelledFor(e.ctx)
	want := model{"a": "1", "b": repeat("b", 100_000)}
	for k, v := range want {
		e.append(entry(k, v))
	}
	reads := []func() error{
		func() error { return compare(ctx, e.store, nil, want) },
		func() error { _, err := openAll(ctx, e.store, "b", 1000); return err },
	}
	// Separate reads, because compare stops at the first error.
	for _, a := range []Ability{CanList, CanScan, CanStat} {
		if e.suite.can[a] {
			reads = append(reads, func() error { return compareByAbility(ctx, e.store, a, want) })
		}
	}
	for _, read := range reads {
		if err := read(); err != nil && !isCancelledError(err) {
			e.Errorf("a read with a cancelled context must fail with context.Canceled and the cause, or be correct: %v", err)
		}
	}
	e.want("after cancelled reads", want)
}

func drop(e *env) {
	e.must("Drop of an empty store", e.store.Drop(e.ctx))
	want := model{}
	for i := range 3 {
		for _, k := range append(numberedKeys(20), "", ".lock", "a/b", repeat("k", 300)) {
			want[k] = repeat("v", i*1000+len(k)+1)
			e.append(entry(k, want[k]))
		}
		e.want("before Drop", want)
		e.must("Drop", e.store.Drop(e.ctx))
		want = model{}
		e.want("after Drop", want)
		if i == 1 && e.reopen() {
			e.want("after Drop and reopening", want)
		}
		e.append(entry("a", "new"))
		want["a"] = "new"
		e.want("an append after Drop", want)
		e.must("Drop", e.store.Drop(e.ctx))
		e.must("a second Drop", e.store.Drop(e.ctx))
		want = model{}
	}
}
