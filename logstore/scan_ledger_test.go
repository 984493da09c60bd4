package logstore

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// A Scan, and ScanPart with one part, must compare the data with the ledger.
func TestScanComparesLedgers(t *testing.T) {
	s, _ := rangesStore(t, scanHooks(vfstest.NewMem()))
	defer s.Close()
	right := s.segments.list[0].ledger
	for name, change := range map[string]func(l *Ledger){
		"lost":    func(l *Ledger) { l.Pieces++ },
		"doubled": func(l *Ledger) { l.Pieces-- },
		"changed": func(l *Ledger) { l.Sum.Lo++ },
		"a reset": func(l *Ledger) { l.Marks++ },
	} {
		change(&s.segments.list[0].ledger)
		for _, parts := range []int{0, 1} {
			chunks := s.Scan(t.Context())
			if parts == 1 {
				chunks = s.ScanPart(t.Context(), 0, 1)
			}
			var corrupt *partd.CorruptError
			if _, err := collectParts(chunks); !errors.As(err, &corrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.segments.list[0].ledger = right
	}
	if _, err := collectParts(s.Scan(t.Context())); err != nil {
		t.Fatal(err)
	}
}
