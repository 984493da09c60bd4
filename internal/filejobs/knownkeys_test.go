package filejobs

import (
	"bytes"
	"testing"
)

// Keys that replace shorter ones also count towards the memory limit.
func TestFirstKeysMemory(t *testing.T) {
	const limit = 100 << 10
	for name, sizes := range map[string][]int{"longer": {1, 1000}, "longer, then shorter, then longer": {300, 1, 900}} {
		f := &firstKeys{n: 200, maxBytes: limit}
		for round, size := range sizes {
			for i := range f.n {
				f.add(append([]byte{byte(100 - round), byte(255 - i)}, make([]byte, size)...))
			}
		}
		held := 0
		for _, k := range f.keys {
			held += cap(k)
		}
		if held > limit {
			t.Errorf("%s: the keys use %d bytes of %d", name, held, limit)
		}
		if f.disabled && !f.add(bytes.Repeat([]byte{255}, 9)) {
			t.Errorf("%s: a key was dropped although the first keys are unknown", name)
		}
	}
}
