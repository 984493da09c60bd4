package logstore

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestAddShort(t *testing.T) {
	s := mustOpen(t, t.TempDir(), &Options{Memory: MinMemory})
	r := rand.New(rand.NewPCG(1, 2))
	keys := []int{0, 1, 11, shortKey - 1, shortKey, shortKey + 1, 1000}
	values := []int{0, 1, 31, 32, 33, 100, shortValue - 1, shortValue, shortValue + 1, 6000}
	fast, general := &batch{}, &batch{}
	for range 200 {
		var entries []partd.Entry
		for range r.IntN(50) {
			k := strings.Repeat(string(rune('a'+r.IntN(26))), keys[r.IntN(len(keys))])
			v := bytes.Repeat([]byte{byte(r.Uint32())}, values[r.IntN(len(values))])
			entries = append(entries, partd.Entry{Key: k, Value: v})
		}
		fast.reset()
		must.Do(t, s.encodeAppend(fast, entries))
		general.reset()
		for _, e := range entries {
			if len(e.Value) > 0 {
				general.add(segment.KindAppend, e.Key, e.Value, s.format.Hash(e.Key), s.tables.bits)
			}
		}
		general.checksum()
		if !bytes.Equal(fast.entries(), general.entries()) || fast.crc != general.crc ||
			!slices.Equal(fast.offsets, general.offsets) || !slices.Equal(fast.parts, general.parts) {
			t.Fatalf("addShort and add encode %d entries differently", len(entries))
		}
		must.Do(t, general.ledger.Diff(fast.ledger))
	}
}
