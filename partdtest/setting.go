package partdtest

import "fmt"

func set(e *env) {
	e.append(entry("other", "o"))
	for i, size := range []int{5, 1, 200_000, 0, 3, 70_000, 70_001, 2} {
		e.set("a", randomText(size, uint64(i)))
		e.check(fmt.Sprintf("Set to %d bytes replaces the value", size))
		e.append(entry("a", "+"), entry("other", "+"))
		e.check("an append after Set")
	}
	e.checkReopened()
}

func setEmpty(e *env) {
	e.set("a", "")
	e.check("Set to an empty value creates a key")
	e.append(entry("b", "1"))
	e.set("b", "")
	e.check("Set to an empty value keeps the key")
	e.checkReopened()
	e.checkOpen("a", 10)
	e.append(entry("b", ""), entry("c", ""))
	e.check("an empty append to a key with an empty value changes nothing")
	e.append(entry("b", "2"))
	e.check("an append to an empty value")
	if e.suite.can[CanDelete] {
		e.delete("a")
		e.check("Delete of a key with an empty value")
		e.set("a", "")
	}
	e.drop()
	e.check("Drop also removes keys with empty values")
}

func setOnce(e *env) {
	e.setOnce("a", "first")
	e.setOnce("a", "second")
	e.check("SetOnce keeps a value that it has set")
	e.append(entry("b", "appended"))
	e.setOnce("b", "set")
	e.check("SetOnce keeps an appended value")
	e.setOnce("c", "")
	e.setOnce("c", "set")
	e.check("SetOnce keeps an empty value")
	e.append(entry("a", "+"))
	e.check("an append after SetOnce")
	if e.reopen() {
		e.setOnce("a", "third")
		e.setOnce("c", "third")
		e.check("SetOnce after reopening")
	}
	e.drop()
	e.setOnce("a", "after Drop")
	e.check("SetOnce of a dropped key")
	if e.suite.can[CanDelete] {
		e.delete("a")
		e.setOnce("a", "after Delete")
		e.check("SetOnce of a deleted key")
	}
}

func deleteKeys(e *env) {
	keys := numberedKeys(10)
	for _, k := range keys {
		e.append(entry(k, k))
	}
	e.delete()
	e.check("Delete of no keys")
	e.delete(keys[3])
	e.check("Delete of a key")
	e.delete(keys[5], keys[7], keys[5])
	e.check("Delete of several keys, one of them twice")
	e.checkReopened()
}

func deleteMissing(e *env) {
	e.delete("missing", "")
	e.append(entry("a", "1"))
	e.delete("missing", "a", "a/b")
	e.check("Delete of a key and a missing one")
	e.delete("a")
	e.check("Delete of a deleted key")
}

func deleteThenAppend(e *env) {
	for i, size := range []int{1, 100_000, 10, 5000, 3} {
		v := randomText(size, uint64(i))
		e.append(entry("a", v[:size/2]), entry("b", "b"))
		e.append(entry("a", v[size/2:]))
		e.check("an append after Delete starts a new value")
		e.delete("a")
		e.check("Delete")
	}
}
