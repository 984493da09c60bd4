package partd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestDictScanWhileKeysChange checks that a running Scan omits deleted keys, and yields keys set to an empty value.
func TestDictScanWhileKeysChange(t *testing.T) {
	d := NewDict()
	const n = 2000
	for i := range n {
		value := bytes.Repeat([]byte("x"), i%2)
		if err := d.Set(t.Context(), strconv.Itoa(i), value); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for c, err := range d.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			for i := range n {
				key := strconv.Itoa(i)
				if i%4 < 2 {
					err = d.Delete(t.Context(), key)
				} else {
					err = d.Set(t.Context(), key, nil)
				}
				if err != nil {
					t.Fatal(err)
				}
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
	if err := d.Append(t.Context(), Entry{"k", value[:7]}, Entry{"k", value[7:]}); err != nil {
		t.Fatal(err)
	}
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
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CopyValue(t.Context(), nil, "k"); !errors.Is(err, ErrClosed) {
		t.Errorf("CopyValue after Close = %v, want ErrClosed", err)
	}
}

// BenchmarkDictAppend appends batches of 1,000 entries of 100 bytes to random keys in one goroutine.
func BenchmarkDictAppend(b *testing.B) {
	for _, keys := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			benchAppend(b, keys, func() Partd { return NewDict() })
		})
	}
}

func benchAppend(b *testing.B, keys int, open func() Partd) {
	const batch, total = 1000, 2_000_000
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("key%08d", i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	batches := make([][]Entry, min(max(100, 4*keys/batch), 4000)) // enough for all keys
	value := make([]byte, 100)
	for i := range batches {
		batches[i] = make([]Entry, batch)
		for j := range batches[i] {
			batches[i][j] = Entry{Key: names[rng.IntN(keys)], Value: value}
		}
	}
	ctx := context.Background()
	b.SetBytes(100 * total)
	for b.Loop() {
		d := open()
		for i := range total / batch {
			if err := d.Append(ctx, batches[i%len(batches)]...); err != nil {
				b.Fatal(err)
			}
		}
		if err := Close(ctx, d); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds()/1e6, "Mentries/s")
}
