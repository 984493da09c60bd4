package partd

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestDictScanWhileKeysChange checks that a running Scan omits deleted keys, and yields keys set to an empty value.
func TestDictScanWhileKeysChange(t *testing.T) {
	d := NewDict()
	const n = 2000
	for i := range n {
		value := bytes.Repeat([]byte("x"), i%2)
		must.Do(t, d.Set(t.Context(), strconv.Itoa(i), value))
	}
	seen := map[string]bool{}
	for c, err := range d.Scan(t.Context()) {
		must.Do(t, err)
		if len(seen) == 0 {
			for i := range n {
				key := strconv.Itoa(i)
				if i%4 < 2 {
					err = d.Delete(t.Context(), key)
				} else {
					err = d.Set(t.Context(), key, nil)
				}
				must.Do(t, err)
			}
		} else if i, err := strconv.Atoi(c.Key); err != nil || i%4 < 2 {
			t.Fatalf("Scan yielded key %q after it was deleted", c.Key)
		}
		seen[c.Key] = true
	}
	for i := range n {
		if key := strconv.Itoa(i); i%4 >= 2 && !seen[key] {
			t.Fatalf("Scan did not yield key %q, which was set to an empty value", key)
		}
	}
}

// TestCopyValue checks that CopyValue copies a value only if it fits, and always returns its length.
func TestCopyValue(t *testing.T) {
	d := NewDict()
	value := bytes.Repeat([]byte("value"), 30_000)
	must.Do(t, d.Append(t.Context(), Entry{"k", value[:7]}, Entry{"k", value[7:]}))
	for _, size := range []int{0, len(value) - 1, len(value), len(value) + 1} {
		dst := bytes.Repeat([]byte{'-'}, size)
		want := bytes.Clone(dst)
		if size >= len(value) {
			copy(want, value)
		}
		if n, err := d.CopyValue(t.Context(), dst, "k"); n != int64(len(value)) || err != nil || !bytes.Equal(dst, want) {
			t.Errorf("CopyValue into %d bytes = %d, %v, or wrong bytes; want %d", size, n, err, len(value))
		}
	}
	if n, err := d.CopyValue(t.Context(), nil, "absent"); n != 0 || err != nil {
		t.Errorf("CopyValue of an absent key = %d, %v; want 0", n, err)
	}
	must.Do(t, d.Close())
	must.Fail(t, must.Err(d.CopyValue(t.Context(), nil, "k")), ErrClosed, "CopyValue after Close")
}

// TestDictCountsIndex checks that the memory used includes the index of the keys, whichever method adds or removes keys.
// Buffer's budget depends on it.
func TestDictCountsIndex(t *testing.T) {
	const keys = 20_000
	for name, add := range map[string]func(d *Dict, key string) error{
		"Append":  func(d *Dict, key string) error { return d.Append(ctx, Entry{Key: key, Value: []byte("v")}) },
		"Set":     func(d *Dict, key string) error { return d.Set(ctx, key, []byte("v")) },
		"SetOnce": func(d *Dict, key string) error { return d.SetOnce(ctx, key, []byte("v")) },
	} {
		d := NewDict()
		names := make([]string, keys)
		for i := range names {
			names[i] = strconv.Itoa(i)
			must.Do(t, add(d, names[i]))
		}
		full := d.indexMemory()
		if full < keys*8 {
			t.Errorf("%s: the index of %d keys has %d bytes", name, keys, full)
		}
		must.Do(t, d.Delete(ctx, names[1:]...))
		if left := d.indexMemory(); left > full/2 {
			t.Errorf("%s: after a Delete of all but one key, the index has %d bytes of %d", name, left, full)
		}
	}
}

// TestDictFull fills a Dict whose slab has few blocks. A refused change must change nothing, and a Dict whose last key
// was deleted accepts changes again.
func TestDictFull(t *testing.T) {
	d := NewDict()
	d.data.MaxBlocks = 40
	value := bytes.Repeat([]byte("v"), 100_000)
	var keys []string
	for err := error(nil); err == nil; {
		keys = append(keys, strconv.Itoa(len(keys)))
		err = d.Append(ctx, Entry{keys[len(keys)-1], value})
		if err != nil && (!errors.Is(err, ErrTooLarge) || len(keys) < 150) {
			t.Fatalf("append number %d: error %v, want ErrTooLarge after at least 150", len(keys), err)
		}
	}
	keys = keys[:len(keys)-1] // the last append failed
	before, used := must.Get(Stat(ctx, d))(t), d.MemoryUsed()
	session := must.Get(d.NewSession(ctx))(t)
	tag := Tag{Session: session, Number: 1}
	large := bytes.Repeat([]byte("w"), 2<<20)
	for name, change := range map[string]func() error{
		"Append": func() error {
			return d.Append(ctx, Entry{"new", []byte("fits")}, Entry{"0", []byte("fits")}, Entry{"1", large})
		},
		"Set":     func() error { return d.Set(ctx, "0", large) },
		"SetOnce": func() error { return d.SetOnce(ctx, "new", large) },
		"Apply": func() error {
			_, err := d.Apply(ctx, tag, Operation{Change: ChangeSet, Entries: []Entry{{"0", large}}})
			return err
		},
		"Append to long": func() error { return d.Append(ctx, Entry{string(large[:MaxKeyLen]), large}) },
	} {
		must.Fail(t, change(), ErrTooLarge, "%s of a full Dict", name)
	}
	if after := must.Get(Stat(ctx, d))(t); after != before || d.MemoryUsed() != used {
		t.Errorf("after refused changes, the Dict has %+v and uses %d bytes, want %+v and %d", after, d.MemoryUsed(), before, used)
	}
	for _, key := range keys {
		wantValue(t, d, key, string(value))
	}
	must.Do(t, d.Delete(ctx, keys...))
	if applied := must.Get(d.Apply(ctx, tag, Operation{Change: ChangeSet, Entries: []Entry{{"0", large}}}))(t); !applied {
		t.Error("the refused operation used up its number")
	}
	wantValue(t, d, "0", string(large))
}
