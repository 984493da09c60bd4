package logstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestEntriesAcrossBlocks scans a segment whose entries begin in one block and end in another. With little memory, the scan
// collects loaded entries several times, for one half of the hashes after the other.
func TestEntriesAcrossBlocks(t *testing.T) {
	for _, c := range []struct {
		name      string
		readBytes int64
		valueLens []int
	}{
		{"short entries", 0, []int{10, 11, 100}},
		{"entries that span three blocks", 0, []int{65_530, 1, 65_500}},
		{"many references", 700 << 10, []int{5, 6, 7}},
	} {
		h := hooks{fs: vfstest.NewMem(), tableBytes: 4 << 20, readBytes: c.readBytes, scanWorkers: 1}
		h.hash = func(key string) uint64 { return uint64(binary.BigEndian.Uint32([]byte(key[3:]))) << 16 } // in one range
		s := openWith(t, "/s", nil, h)
		want := map[string][]byte{}
		for size, i := 0, 0; size < 900<<10; i++ {
			key := fmt.Sprintf("key%04d", i*7%1000)
			value := bytes.Repeat([]byte{byte(i)}, c.valueLens[i%len(c.valueLens)])
			if err := s.Append(t.Context(), partd.Entry{Key: key, Value: value}); err != nil {
				t.Fatal(err)
			}
			want[key] = append(want[key], value...)
			size += len(key) + len(value) + 3
		}
		got, err := collectParts(s.Scan(t.Context()))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for key, value := range want {
			if !bytes.Equal(got.values[key], value) {
				t.Errorf("%s: %s has %d bytes, want %d other bytes", c.name, key, len(got.values[key]), len(value))
				break
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
