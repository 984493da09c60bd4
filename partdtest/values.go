package partdtest

import (
	"unsafe"

	"github.com/go-partd/partd"
)

func nilIsEmpty(e *env) {
	e.append(partd.Entry{Key: "a"}, entry("b", "1"))
	e.check("a nil value is an empty value, which creates no key")
	e.append(partd.Entry{Key: "b"})
	e.check("a nil value changes nothing")
	if e.suite.can[CanSet] {
		e.must("Set", partd.Set(e.ctx, e.store, "b", nil))
		e.expectModel("Set to nil sets an empty value", model{"b": ""})
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, "c", nil))
		e.expectModel("SetOnce to nil sets an empty value", model{"b": "", "c": ""})
	}
}

func emptyAppend(e *env) {
	e.append(entry("a", ""))
	e.check("an empty append creates no key")
	e.append(entry("a", "1"), entry("b", ""))
	e.append(entry("a", ""), entry("a", ""))
	e.check("an empty append changes nothing")
	if e.suite.can[CanSet] {
		e.setOnce("b", "2")
		e.check("an empty append does not make a key exist")
	}
	if e.reopen() {
		e.append(entry("c", ""))
	}
	e.append(entry("a", "3"))
	e.checkGet("a", "c")
}

func reusedMemory(e *env) {
	value := make([]byte, 0, 100_000)
	entries := make([]partd.Entry, 2)
	for i, size := range []int{3, 100, 5000, 100_000} {
		c := string(rune('a' + i))
		value = append(value[:0], repeat(c, size)...)
		entries[0] = partd.Entry{Key: "a", Value: value}
		entries[1] = partd.Entry{Key: c + "other", Value: value[:size/2]}
		e.append(entries...)
		clear(value)
		entries[0].Key, entries[1].Key = "wrong", "wrong"
		clear(entries)
		e.check("after the caller reused the slices passed to Append")
	}
	// The memory of keys may also be reused.
	name := []byte("key in a buffer")
	e.append(partd.Entry{Key: unsafe.String(&name[0], len(name)), Value: []byte("v")})
	copy(name, "KEY IN ANOTHER ")
	e.append(entry("one more", "w"))
	e.check("after the caller reused the memory of a key passed to Append")
	if e.suite.can[CanSet] {
		value = append(value[:0], "set to this"...)
		e.must("Set", partd.Set(e.ctx, e.store, "a", value))
		clear(value)
		value = append(value[:0], "set once"...)
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, "b", value))
		clear(value)
		e.model["a"], e.model["b"] = "set to this", "set once"
		e.check("after the caller reused the slice passed to Set and SetOnce")
	}
}

func emptyBatch(e *env) {
	e.append()
	e.append([]partd.Entry{}...)
	e.check("an empty batch changes nothing")
	e.append(entry("a", "1"))
	e.append()
	e.check("an empty batch changes nothing")
}

func anyBytes(e *env) {
	var allBytes []byte
	for b := range 256 {
		allBytes = append(allBytes, byte(b))
	}
	for range 2 {
		e.append(entry("all", string(allBytes)), entry("nul", "\x00"), entry("newline", "\n"))
		e.append(entry("zeros", repeat("\x00", 5000)))
		e.append(entry("ff", repeat("\xff", 5000)))
	}
	e.check("values of arbitrary bytes")
	e.checkReopened()
}

func valueSizes(e *env) {
	for _, power := range []int{1, 2, 8, 16, 64, 128, 256, 512, 1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 1 << 20} {
		for size := max(1, power-1); size <= power+1; size++ {
			e.append(entry(numberedKeys(3)[size%3], randomText(size, uint64(size))))
		}
	}
	e.check("values of sizes around powers of two")
}

func largeValue(e *env) {
	v := randomText(e.suite.opts.LargeValue, 1)
	e.append(entry("before", "1"), entry("large", v), entry("after", "2"))
	e.append(entry("large", "end"))
	e.check("a large value")
	for _, size := range []int{1 << 20, 4093} {
		e.checkOpen("large", size)
	}
	if e.suite.can[CanSet] {
		e.set("large", v[1:])
		e.check("Set to a large value")
	}
	e.checkReopened()
}

func manyPieces(e *env) {
	for i := range e.suite.opts.Pieces {
		e.append(entry("many", randomText(1+i*i%1999, uint64(i))), entry("other", "x"))
	}
	e.check("a value of many appends")
}

func manyKeys(e *env) {
	keys := numberedKeys(2000)
	var batch []partd.Entry
	for i := range 3 * len(keys) {
		k := keys[i*7%len(keys)]
		batch = append(batch, entry(k, k+";"))
	}
	e.append(batch...)
	e.check("a batch of many keys")
	e.append(batch[:100]...)
	e.check("a smaller batch after a large one")
	e.drop()
	e.check("after Drop of many keys")
}

// recommendedBatch appends as many bytes as the store recommends.
func recommendedBatch(e *env) {
	b, ok := partd.As[partd.Batcher](e.store)
	if !ok {
		return
	}
	if n := b.BatchBytes(); n <= 0 {
		e.Fatalf("BatchBytes returned %d, but a batch has at least one byte", n)
	}
	key := "recommended"
	e.append(entry(key, repeat("v", max(min(partd.BatchBytes(e.store), 16<<20)-len(key), 1))))
	e.check("an append of the size that BatchBytes recommends")
}
