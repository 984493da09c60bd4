package partd

import (
	"bytes"
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
