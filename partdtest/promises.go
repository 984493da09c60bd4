package partdtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
)

// promiseChecks are of Append, Get and Drop by themselves.
func promiseChecks() []check {
	return []check{
		{name: "get-order", run: getOrder},
		{name: "get-same-key-twice", run: getTwice},
		{name: "get-of-nothing", run: getNothing},
		{name: "get-missing-keys", run: getMissing},
		{name: "ownership-of-what-get-returns", run: getOwnership},
		{name: "append-order", run: appendOrder},
		{name: "cancelled-context-changes-nothing", run: cancelledChanges},
		{name: "cancelled-context-reads-nothing-wrong", run: cancelledReads},
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
	asked := slices.Clone(keys)
	slices.Reverse(asked)
	asked = append(asked[20:], asked[:20]...)
	for i, v := range e.get(asked...) {
		if want := asked[i] + " has this"; string(v) != want {
			e.Fatalf("Get returns values in the order asked; value %d is %q, want %q", i, v, want)
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
		e.Fatalf("Get of a key several times returned the same memory several times, but each value belongs to the caller")
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
			e.Fatalf("a key never appended to has the value %q", v)
		}
	}
	e.want("Get makes no key", nil)
	e.append(entry("b", "1"))
	if v := e.get("a", "b", "c"); len(v[0]) != 0 || string(v[1]) != "1" || len(v[2]) != 0 {
		e.Fatalf("Get of two missing keys around one returned %q", v)
	}
}

func getOwnership(e *env) {
	want := model{"a": repeat("a", 10), "b": repeat("b", 3000), "c": repeat("c", 200_000)}
	for k, v := range want {
		e.append(entry(k, v[:len(v)/2]), entry(k, v[len(v)/2:]))
	}
	first := e.get("a", "b", "c")
	for i, v := range first {
		for j := range v {
			v[j] = '!'
		}
		first[i] = append(v, "what follows in memory"...)
	}
	e.want("the caller has changed what Get returned, and appended to it", want)
	e.append(entry("a", "more"))
	want["a"] += "more"
	for _, v := range first {
		for _, c := range v[:10] {
			if c != '!' {
				e.Fatalf("what Get returned belongs to the caller, but an Append changed it")
			}
		}
	}
	e.want("an Append after that", want)
}

func appendOrder(e *env) {
	want := model{}
	for i := range 500 {
		k, v := numberedKeys(3)[i%3], string(rune('0'+i%10))
		e.append(entry(k, v))
		want[k] += v
		if i%100 == 0 {
			e.want("a value is its appends in order", want)
		}
	}
	e.want("a value is its appends in order", want)
}

// errSibling is why contexts are cancelled: what another goroutine did, of which nobody
// knows the outcome.
var errSibling = fmt.Errorf("what another goroutine did failed: %w", partd.ErrUnknownOutcome)

// cancelledFor returns a context that was cancelled for errSibling.
func cancelledFor(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	cancel(errSibling)
	return ctx
}

// tellsOfEnd reports whether an error is one of a context that was cancelled for
// errSibling, with the cause and without the cause's outcome.
func tellsOfEnd(err error) bool {
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
		if !tellsOfEnd(err) && !errors.Is(err, errors.ErrUnsupported) {
			e.Errorf("%s with a context that is cancelled already must fail with context.Canceled and the cause, and without the cause's ErrUnknownOutcome: %v", op.name, err)
		}
		e.want(op.name+" with a context that is cancelled already must change nothing", model{"a": "1"})
	}
}

// cancelledReads allows a read that takes no time to ignore its context.
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
	// Each alone, since the first that is cancelled ends a comparison.
	for _, a := range []Ability{CanList, CanScan, CanStat} {
		if e.suite.can[a] {
			reads = append(reads, func() error { return compareAs(ctx, e.store, a, want) })
		}
	}
	for _, read := range reads {
		if err := read(); err != nil && !tellsOfEnd(err) {
			e.Errorf("a read with a cancelled context must fail with context.Canceled and the cause, or be right: %v", err)
		}
	}
	e.want("after reads that were cancelled", want)
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
			e.want("after Drop and opening again", want)
		}
		e.append(entry("a", "new"))
		want["a"] = "new"
		e.want("an append after Drop", want)
		e.must("Drop", e.store.Drop(e.ctx))
		e.must("a second Drop", e.store.Drop(e.ctx))
		want = model{}
	}
}
