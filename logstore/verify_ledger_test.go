package logstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestLedger checks that the ledger detects valid entries with swapped values.
func TestLedger(t *testing.T) {
	s := openWith(t, "/s", nil, hooks{fs: vfstest.NewMem()})
	for k, v := range map[string]string{"key1": "value one", "key2": "value two", "key3": "value 333"} {
		mustAppend(t, s, k, v)
	}
	must.Do(t, s.Flush(t.Context()))
	ledger, err := s.verify(t.Context())
	if err != nil || ledger.Pieces != 3 || ledger.Bytes != 27 {
		t.Fatalf("Verify() = %+v, %v, want 3 pieces and 27 bytes", ledger, err)
	}
	must.Get(contents(s))(t)
	// Swap two values, and correct the checksums, so that only the ledger can detect the change.
	seg := s.segments.list[0]
	b := make([]byte, seg.StoredLen())
	must.Get(seg.file.ReadAt(b, seg.Start))(t)
	firstOffset, secondOffset := bytes.Index(b, []byte("value one")), bytes.Index(b, []byte("value two"))
	for off, v := range map[int]string{firstOffset: "value two", secondOffset: "value one"} {
		changeChecked(t, seg, seg.Start+int64(off), []byte(v)...)
	}
	var corrupt *partd.CorruptError
	if _, err := contents(s); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "ledger") {
		t.Fatalf("Scan of swapped values: error %v, want a CorruptError about the ledger", err)
	}
	if _, err := s.verify(t.Context()); !errors.As(err, &corrupt) || corrupt.Path != "/s/seg-00000001" {
		t.Fatalf("Verify of swapped values: error %v, want a CorruptError for the segment file", err)
	}
	must.Do(t, s.Close())
}

// TestScanComparesLedgers checks that a Scan compares the data with the ledger (counts and sums of hashes).
func TestScanComparesLedgers(t *testing.T) {
	s, _ := rangesStore(t, scanHooks(vfstest.NewMem()))
	defer s.Close()
	right := s.segments.list[0].ledger
	for name, change := range map[string]func(l *segment.Ledger){
		"lost piece":       func(l *segment.Ledger) { l.Pieces++ },
		"duplicated piece": func(l *segment.Ledger) { l.Pieces-- },
		"changed piece":    func(l *segment.Ledger) { l.Sum.Lo++ },
		"lost reset":       func(l *segment.Ledger) { l.Marks++ },
	} {
		change(&s.segments.list[0].ledger)
		for _, parts := range []int{0, 1} {
			chunks := s.Scan(t.Context())
			if parts == 1 {
				chunks = s.ScanPart(t.Context(), 0, 1)
			}
			var corrupt *partd.CorruptError
			if _, err := collectParts(chunks); !errors.As(err, &corrupt) {
				t.Errorf("%s, scan of all keys in %d parts (0: not divided): error %v, want a CorruptError", name, parts, err)
			}
		}
		s.segments.list[0].ledger = right
	}
	must.Get(collectParts(s.Scan(t.Context())))(t)
}
