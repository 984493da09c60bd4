package partdtest

import "github.com/go-partd/partd"

func popChecks() []check {
	return []check{
		{name: "pop", requires: []Ability{CanPop}, run: pop},
		{name: "pop-same-key-twice", requires: []Ability{CanPop}, run: popTwice},
		{name: "pop-result-ownership", requires: []Ability{CanPop}, run: popOwnership},
	}
}

func (e *env) pop(keys ...string) [][]byte {
	e.Helper()
	values, err := partd.Pop(e.ctx, e.store, keys...)
	e.must("Pop", err)
	if len(values) != len(keys) {
		e.Fatalf("Pop of %d keys returned %d values", len(keys), len(values))
	}
	return values
}

func pop(e *env) {
	e.pop()
	want := model{"a": "1", "b": repeat("b", 100_000), "c": "3", "d": "4"}
	for k, v := range want {
		e.append(entry(k, v))
	}
	values := e.pop("c", "missing", "b")
	for i, v := range []string{"3", "", want["b"]} {
		e.must("Pop", differenceError("Pop must return values in the order of the requested keys", values[i], v))
	}
	delete(want, "b")
	delete(want, "c")
	e.want("Pop removes the keys", want)
	e.append(entry("c", "new"))
	want["c"] = "new"
	e.want("an append after Pop starts a new value", want)
	if e.reopen() {
		e.want("after reopening", want)
	}
	e.must("Pop", differenceError("Pop of a key that was popped earlier", e.pop("c")[0], "new"))
	e.must("Pop", differenceError("Pop of a key that was just popped", e.pop("c")[0], ""))
	if e.suite.can[CanSet] {
		e.set("e", "")
		e.must("Pop", differenceError("Pop of a key with an empty value", e.pop("e")[0], ""))
		delete(want, "c")
		e.want("Pop removes a key with an empty value", want)
	}
}

// popTwice passes a key twice to one Pop. Like Get, Pop must return the value both times.
func popTwice(e *env) {
	e.append(entry("a", "one"), entry("b", "two"))
	values := e.pop("a", "b", "a")
	for i, want := range []string{"one", "two", "one"} {
		if string(values[i]) != want {
			e.Fatalf("Pop of a key twice: value %d is %q, want %q, as Get returns", i, values[i], want)
		}
	}
	e.want("Pop of a key twice", nil)
}

func popOwnership(e *env) {
	e.append(entry("a", "first"), entry("b", "kept"))
	v := e.pop("a")[0]
	e.append(entry("a", "other"))
	if string(v) != "first" {
		e.Fatalf("the result of Pop belongs to the caller, but an Append changed it to %q", v)
	}
	for i := range v {
		v[i] = '!'
	}
	_ = append(v, "what follows in memory"...)
	e.want("after the caller changed the result of Pop", model{"a": "other", "b": "kept"})
}
