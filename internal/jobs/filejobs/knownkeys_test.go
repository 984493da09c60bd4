package filejobs

import (
	"bytes"
	"testing"
)

// TestFirstKeysMemory checks that keys that replace shorter keys also count towards the memory limit.
func TestFirstKeysMemory(t *testing.T) {
	const limit = 100 << 10
	for name, sizes := range map[string][]int{"longer": {1, 1000}, "longer, then shorter, then longer": {300, 1, 900}} {
		f := &firstKeys{n: 200, maxBytes: limit}
		for round, size := range sizes {
			for i := range f.n {
				f.add(append([]byte{byte(100 - round), byte(255 - i)}, make([]byte, size)...))
			}
		}
		used := 0
		for _, k := range f.keys {
			used += cap(k)
		}
		if used > limit {
			t.Errorf("%s: the keys use %d bytes, want at most %d", name, used, limit)
		}
		if f.disabled && !f.add(bytes.Repeat([]byte{255}, 9)) {
			t.Errorf("%s: add rejected a key although firstKeys is disabled", name)
		}
	}
}

// TestFirstKeysKeepsEarlierKeys checks that a key equal to the largest of the first keys is rejected, because the
// earlier record comes first.
func TestFirstKeysKeepsEarlierKeys(t *testing.T) {
	f := &firstKeys{n: 2, maxBytes: 1 << 20}
	for i, want := range []struct {
		key   string
		added bool
	}{{"b", true}, {"c", true}, {"c", false}, {"d", false}, {"b", true}, {"b", false}, {"a", true}, {"b", false}} {
		if added := f.add([]byte(want.key)); added != want.added {
			t.Errorf("add %d, of %q, = %v, want %v", i, want.key, added, want.added)
		}
	}
	if f.dropped != 4 {
		t.Errorf("%d keys were dropped, want 4", f.dropped)
	}
}
