package partdtest

import (
	"strings"
	"unsafe"

	"github.com/go-partd/partd"
)

func valueChecks() []check {
	return []check{
		{name: "nil-is-empty", run: nilIsEmpty},
		{name: "empty-append", run: emptyAppend},
		{name: "slice-changed-after-append", run: reusedMemory},
		{name: "empty-batch", run: emptyBatch},
		{name: "value-any-bytes", run: anyBytes},
		{name: "value-sizes", run: valueSizes},
		{name: "value-large", run: largeValue},
		{name: "value-of-many-pieces", run: manyPieces},
		{name: "batch-of-many-keys", run: manyKeys},
	}
}

func nilIsEmpty(e *env) {
	e.append(partd.Entry{Key: "a"}, entry("b", "1"))
	e.want("a nil value is an empty value, which creates no key", model{"b": "1"})
	e.append(partd.Entry{Key: "b"})
	e.want("a nil value changes nothing", model{"b": "1"})
	if e.suite.can[CanSet] {
		e.must("Set", partd.Set(e.ctx, e.store, "b", nil))
		e.want("Set to nil sets an empty value", model{"b": ""})
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, "c", nil))
		e.want("SetOnce to nil sets an empty value", model{"b": "", "c": ""})
	}
}

func emptyAppend(e *env) {
	e.append(entry("a", ""))
	e.want("an empty append creates no key", nil)
	e.append(entry("a", "1"), entry("b", ""))
	e.append(entry("a", ""), entry("a", ""))
	e.want("an empty append changes nothing", model{"a": "1"})
	if e.suite.can[CanSet] {
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, "b", []byte("2")))
		e.want("an empty append does not make a key exist", model{"a": "1", "b": "2"})
	}
	if e.reopen() {
		e.append(entry("c", ""))
		e.append(entry("a", "3"))
	} else {
		e.append(entry("a", "3"))
	}
	values := e.get("a", "c")
	if string(values[0]) != "13" || len(values[1]) != 0 {
		e.Fatalf("after empty appends, Get returned %q", values)
	}
}

func reusedMemory(e *env) {
	want := model{}
	value := make([]byte, 0, 100_000)
	entries := make([]partd.Entry, 2)
	for i, size := range []int{3, 100, 5000, 100_000} {
		c := string(rune('a' + i))
		value = append(value[:0], repeat(c, size)...)
		entries[0] = partd.Entry{Key: "a", Value: value}
		entries[1] = partd.Entry{Key: c + "other", Value: value[:size/2]}
		e.append(entries...)
		want["a"] += repeat(c, size)
		want[c+"other"] = repeat(c, size/2)
		clear(value)
		entries[0].Key, entries[1].Key = "wrong", "wrong"
		clear(entries)
		e.want("after the caller reused the slices passed to Append", want)
	}
	// The memory of keys may also be reused.
	name := []byte("key in a buffer")
	e.append(partd.Entry{Key: unsafe.String(&name[0], len(name)), Value: []byte("v")})
	want[string(name)] = "v"
	copy(name, "KEY IN ANOTHER ")
	e.append(partd.Entry{Key: "one more", Value: []byte("w")})
	want["one more"] = "w"
	e.want("after the caller reused the memory of a key passed to Append", want)
	if e.suite.can[CanSet] {
		value = append(value[:0], "set to this"...)
		e.must("Set", partd.Set(e.ctx, e.store, "a", value))
		clear(value)
		value = append(value[:0], "set once"...)
		e.must("SetOnce", partd.SetOnce(e.ctx, e.store, "b", value))
		clear(value)
		want["a"], want["b"] = "set to this", "set once"
		e.want("after the caller reused the slice passed to Set and SetOnce", want)
	}
}

func emptyBatch(e *env) {
	e.append()
	e.append([]partd.Entry{}...)
	e.want("an empty batch changes nothing", nil)
	e.append(entry("a", "1"))
	e.append()
	e.want("an empty batch changes nothing", model{"a": "1"})
}

func anyBytes(e *env) {
	var allBytes strings.Builder
	for b := range 256 {
		allBytes.WriteByte(byte(b))
	}
	want := model{"all": allBytes.String(), "nul": "\x00", "newline": "\n", "zeros": repeat("\x00", 5000), "ff": repeat("\xff", 5000)}
	for k, v := range want {
		e.append(entry(k, v))
	}
	for k, v := range want {
		e.append(entry(k, v))
		want[k] += v
	}
	e.want("values of arbitrary bytes", want)
	if e.reopen() {
		e.want("after reopening", want)
	}
}

func valueSizes(e *env) {
	want := model{}
	for _, power := range []int{1, 2, 8, 16, 64, 128, 256, 512, 1 << 10, 4 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 1 << 20} {
		for size := max(1, power-1); size <= power+1; size++ {
			v := string(randomBytes(size, uint64(size)))
			k := numberedKeys(3)[size%3]
			e.append(entry(k, v))
			want[k] += v
		}
	}
	e.want("values of sizes around powers of two", want)
}

func largeValue(e *env) {
	v := string(randomBytes(e.suite.opts.LargeValue, 1))
	want := model{"large": v + "end", "before": "1", "after": "2"}
	e.append(entry("before", "1"), entry("large", v), entry("after", "2"))
	e.append(entry("large", "end"))
	e.want("a large value", want)
	for _, size := range []int{1 << 20, 4093} {
		got, err := openAll(e.ctx, e.store, "large", size)
		e.must("Open", err)
		e.must("Open", differenceError("Open of a large value", got, want["large"]))
	}
	if e.suite.can[CanSet] {
		e.set("large", v[1:])
		want["large"] = v[1:]
		e.want("Set to a large value", want)
	}
	if e.reopen() {
		e.want("after reopening", want)
	}
}

func manyPieces(e *env) {
	want := model{}
	for i := range e.suite.opts.Pieces {
		v := string(randomBytes(1+i*i%1999, uint64(i)))
		e.append(entry("many", v), entry("other", "x"))
		want["many"] += v
		want["other"] += "x"
	}
	e.want("a value of many appends", want)
}

func manyKeys(e *env) {
	keys := numberedKeys(2000)
	want := model{}
	var batch []partd.Entry
	for i := range 3 * len(keys) {
		k := keys[i*7%len(keys)]
		batch = append(batch, entry(k, k+";"))
		want[k] += k + ";"
	}
	e.append(batch...)
	e.want("a batch of many keys", want)
	e.append(batch[:100]...)
	for _, b := range batch[:100] {
		want[b.Key] += string(b.Value)
	}
	e.want("a smaller batch after a large one", want)
	e.must("Drop", e.store.Drop(e.ctx))
	e.want("after Drop of many keys", nil)
}
