package keymap

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestMapAgainstModel compares a Map with a Go map, with good hashes and with colliding ones.
func TestMapAgainstModel(t *testing.T) {
	seed := maphash.MakeSeed()
	hashes := map[string]func(string) uint64{
		"good":               func(k string) uint64 { return Hash(seed, k) },
		"4 values":           func(k string) uint64 { return Hash(seed, k) & 3 },
		"equal lower halves": func(k string) uint64 { return Hash(seed, k) << 32 },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) { compareWithModel(t, hash) })
	}
}

func compareWithModel(t *testing.T, hash func(string) uint64) {
	rng := rand.New(rand.NewPCG(1, 1))
	var m Map[int64]
	model := map[string]int64{}
	keys := make([]string, 600)
	for i := range keys {
		keys[i] = fmt.Sprint(i) + strings.Repeat("k", rng.IntN(70)*(i%2))
	}
	keys[0], keys[1] = "", strings.Repeat("long", 16_383)+"end"
	for step := range 60_000 {
		k := keys[rng.IntN(len(keys))]
		id := m.Find(hash(k), k)
		want, ok := model[k]
		if (id != 0) != ok || ok && (*m.Val(id) != want || string(m.Key(id)) != k) {
			t.Fatalf("step %d: Find(%.20q) finds a key: %v, want %v with the right value", step, k, id != 0, ok)
		}
		switch {
		case !ok:
			*m.Val(m.Insert(hash(k), k)) = int64(step)
			model[k] = int64(step)
		case rng.IntN(2+step/20_000) == 0:
			m.Delete(id)
			delete(model, k)
		}
		if step%10_000 == 9_999 { // few keys remain, so Compact must shrink the map
			for k := range model {
				if len(model) > 20 {
					m.Delete(m.Find(hash(k), k))
					delete(model, k)
				}
			}
			before := m.Footprint()
			m.Compact()
			if m.Footprint() >= before {
				t.Fatalf("%d keys use %d bytes before Compact and %d bytes after it, want fewer", m.Len(), before, m.Footprint())
			}
		}
	}
	n := 0
	for id := range m.IDs {
		if want, ok := model[string(m.Key(id))]; !ok || want != *m.Val(id) {
			t.Fatalf("IDs yields the key %.20q, which the model does not have with this value", m.Key(id))
		}
		n++
	}
	if n != len(model) || m.Len() != n {
		t.Fatalf("IDs yields %d keys and Len = %d, want %d", n, m.Len(), len(model))
	}
}
