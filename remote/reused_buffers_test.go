package remote

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
)

// TestReusedAnswerBuffers checks that Get returns the right values of all sizes, though answers reuse buffers.
func TestReusedAnswerBuffers(t *testing.T) {
	d := partd.NewDict()
	_, url := serve(t, d, nil)
	c := dial(t, url, nil)
	sizes := []int{1 << 20, 0, 1, 4 << 10, 64<<10 - 1, 64 << 10, 300_000, 1<<20 + 1, defaultPage - 1, defaultPage, defaultPage + 1}
	keys := make([]string, len(sizes))
	want := make([][]byte, len(sizes))
	for i, n := range sizes {
		keys[i], want[i] = fmt.Sprint(n), bytes.Repeat([]byte{byte('a' + i)}, n)
		must(t, c.Append(t.Context(), partd.Entry{Key: keys[i], Value: want[i]}))
	}
	check := func(keys []string, want [][]byte) {
		t.Helper()
		got, err := c.Get(t.Context(), keys...)
		must(t, err)
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("Get of %s returned %d wrong bytes", keys[i], len(got[i]))
			}
		}
	}
	for range 2 {
		check(keys, want)
		for i := range keys {
			check(keys[i:i+1], want[i:i+1])
		}
	}
}

// TestLongValuesAreNotCopied checks that copyValue allocates nothing for a value that is longer than a page.
func TestLongValuesAreNotCopied(t *testing.T) {
	d := partd.NewDict()
	must(t, d.Append(context.Background(), partd.Entry{Key: "k", Value: make([]byte, 100_000)}))
	a := &allowance{}
	if v, ok, err := copyValue(t.Context(), d, "k", make([]byte, 8, 16), 99_999, a); ok || err != nil || v.buf != nil {
		t.Errorf("copyValue beyond the limit = %v, %v with %d bytes, want false", ok, err, len(v.buf))
	}
	v, ok, err := copyValue(t.Context(), d, "k", make([]byte, 8, 200_000), 100_000, a)
	if !ok || err != nil || len(v.data) != 100_000 || len(v.buf) != 100_008 {
		t.Errorf("copyValue = %v, %v with %d bytes after %d, want 100000 after 8", ok, err, len(v.data), len(v.buf)-len(v.data))
	}
}
