package partdtest

import (
	"fmt"

	"github.com/go-partd/partd"
)

func setChecks() []check {
	return []check{
		{name: "set", requires: []Ability{CanSet}, run: set},
		{name: "set-empty-creates-a-key", requires: []Ability{CanSet}, run: setEmpty},
		{name: "set-once", requires: []Ability{CanSet}, run: setOnce},
		{name: "delete", requires: []Ability{CanDelete}, run: deleteKeys},
		{name: "delete-missing", requires: []Ability{CanDelete}, run: deleteMissing},
		{name: "delete-then-append", requires: []Ability{CanDelete}, run: deleteThenAppend},
	}
}

func set(e *env) {
	want := model{"other": "o"}
	e.append(entry("other", "o"))
	for i, size := range []int{5, 1, 200_000, 0, 3, 70_000, 70_001, 2} {
		want["a"] = string(randomBytes(size, uint64(i)))
		e.set("a", want["a"])
		e.want(fmt.Sprintf("Set to %d bytes replaces the value", size), want)
		e.append(entry("a", "+"), entry("other", "+"))
		want["a"] += "+"
		want["other"] += "+"
		e.want("an append after Set", want)
	}
	if e.reopen() {
		e.want("after reopening", want)
	}
}

func setEmpty(e *env) {
	e.set("a", "")
	e.want("Set to an empty value creates a key", model{"a": ""})
	e.append(entry("b", "1"))
	e.set("b", "")
	e.want("Set to an empty value keeps the key", model{"a": "", "b": ""})
	if e.reopen() {
		e.want("after reopening", model{"a": "", "b": ""})
	}
	got, err := openAll(e.ctx, e.store, "a", 10)
	e.must("Open", err)
	e.must("Open", differenceError("Open of a key with an empty value", got, ""))
	e.append(entry("b", ""), entry("c", ""))
	e.want("an empty append to a key with an empty value changes nothing", model{"a": "", "b": ""})
	e.append(entry("b", "2"))
	e.want("an append to an empty value", model{"a": "", "b": "2"})
	if e.suite.can[CanDelete] {
		e.must("Delete", partd.Delete(e.ctx, e.store, "a"))
		e.want("Delete of a key with an empty value", model{"b": "2"})
		e.set("a", "")
	}
	e.must("Drop", e.store.Drop(e.ctx))
	e.want("Drop also removes keys with empty values", nil)
}

func setOnce(e *env) {
	once := func(key, value string) {
		e.Helper()
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, key, []byte(value)))
	}
	once("a", "first")
	once("a", "second")
	e.want("SetOnce keeps a value that it has set", model{"a": "first"})
	e.append(entry("b", "appended"))
	once("b", "set")
	e.want("SetOnce keeps an appended value", model{"a": "first", "b": "appended"})
	once("c", "")
	once("c", "set")
	e.want("SetOnce keeps an empty value", model{"a": "first", "b": "appended", "c": ""})
	e.append(entry("a", "+"))
	e.want("an append after SetOnce", model{"a": "first+", "b": "appended", "c": ""})
	if e.reopen() {
		once("a", "third")
		once("c", "third")
		e.want("SetOnce after reopening", model{"a": "first+", "b": "appended", "c": ""})
	}
	e.must("Drop", e.store.Drop(e.ctx))
	once("a", "after Drop")
	e.want("SetOnce of a dropped key", model{"a": "after Drop"})
	if e.suite.can[CanDelete] {
		e.must("Delete", partd.Delete(e.ctx, e.store, "a"))
		once("a", "after Delete")
		e.want("SetOnce of a deleted key", model{"a": "after Delete"})
	}
}

func deleteKeys(e *env) {
	keys := numberedKeys(10)
	want := model{}
	for _, k := range keys {
		e.append(entry(k, k))
		want[k] = k
	}
	e.must("Delete of no keys", partd.Delete(e.ctx, e.store))
	e.want("Delete of no keys", want)
	e.must("Delete", partd.Delete(e.ctx, e.store, keys[3]))
	delete(want, keys[3])
	e.want("Delete of a key", want)
	e.must("Delete", partd.Delete(e.ctx, e.store, keys[5], keys[7], keys[5]))
	delete(want, keys[5])
	delete(want, keys[7])
	e.want("Delete of several keys, one of them twice", want)
	if e.reopen() {
		e.want("after reopening", want)
	}
}

func deleteMissing(e *env) {
	e.must("Delete of a missing key", partd.Delete(e.ctx, e.store, "missing", ""))
	e.append(entry("a", "1"))
	e.must("Delete of a key and a missing one", partd.Delete(e.ctx, e.store, "missing", "a", "a/b"))
	e.want("Delete of a key and a missing one", nil)
	e.must("Delete of a deleted key", partd.Delete(e.ctx, e.store, "a"))
	e.want("Delete of a deleted key", nil)
}

func deleteThenAppend(e *env) {
	for i := range 5 {
		size := []int{1, 100_000, 10, 5000, 3}[i]
		v := string(randomBytes(size, uint64(i)))
		e.append(entry("a", v[:size/2]), entry("b", "b"))
		e.append(entry("a", v[size/2:]))
		e.want("an append after Delete starts a new value", model{"a": v, "b": repeat("b", i+1)})
		e.must("Delete", partd.Delete(e.ctx, e.store, "a"))
		e.want("Delete", model{"b": repeat("b", i+1)})
	}
}
