package partdtest

func pop(e *env) {
	e.pop()
	e.append(entry("a", "1"), entry("b", repeat("b", 100_000)), entry("c", "3"), entry("d", "4"))
	e.pop("c", "missing", "b")
	e.check("Pop removes the keys")
	e.append(entry("c", "new"))
	e.check("an append after Pop starts a new value")
	e.checkReopened()
	e.pop("c")
	e.pop("c")
	if e.suite.can[CanSet] {
		e.set("e", "")
		e.pop("e")
		e.check("Pop removes a key with an empty value")
	}
}

// popTwice passes a key twice to one Pop. Like Get, Pop must return the value both times.
func popTwice(e *env) {
	e.append(entry("a", "one"), entry("b", "two"))
	values := e.pop("a", "b", "a")
	clear(values[0])
	if string(values[2]) != "one" {
		e.Fatalf("Pop returned the same memory twice for a repeated key, but the caller owns each value")
	}
	e.check("Pop of a key twice")
}

func popOwnership(e *env) {
	e.append(entry("a", "first"), entry("b", "kept"))
	v := e.pop("a")[0]
	e.append(entry("a", "other"))
	if string(v) != "first" {
		e.Fatalf("an Append changed the result of Pop to %q, but the caller owns it", v)
	}
	overwrite(v)
	e.check("after the caller changed the result of Pop")
}
