package partd

import (
	"bytes"
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
