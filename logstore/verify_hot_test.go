package logstore

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// TestVerifyHotRuns checks that Verify compares a footer's information about hot keys, on which Stat and Keys rely,
// with the data. Open must reject a footer that claims more bytes than its segment has.
func TestVerifyHotRuns(t *testing.T) {
	const pieces, pieceLen = 200, 1000
	for name, test := range map[string]struct {
		change func(seg *storedSegment)
		open   string // part of Open's error
		verify string // part of Verify's error
	}{
		"unchanged": {change: func(*storedSegment) {}},
		"far too many bytes": {
			change: func(seg *storedSegment) { seg.Hot[0].Bytes = 1 << 60 },
			open:   "a segment's footer is invalid",
		},
		"too few bytes": {
			change: func(seg *storedSegment) { seg.Hot[0].Bytes-- },
			verify: "199999 bytes, resets false, deleted false; but it has 200000 bytes",
		},
		"wrong reset flag": {
			change: func(seg *storedSegment) { seg.Hot[0].Resets = true },
			verify: "200000 bytes, resets true, deleted false; but it has 200000 bytes, resets false",
		},
		"wrong deleted flag": {
			change: func(seg *storedSegment) { seg.Hot[0].Deleted = true },
			verify: "resets false, deleted true; but it has 200000 bytes, resets false, deleted false",
		},
		"wrong hash": {
			change: func(seg *storedSegment) { seg.Hot[0].Hash++ },
			verify: "the footer has the wrong hash for key ",
		},
		"wrong order": {
			change: func(seg *storedSegment) { slices.Reverse(seg.Hot) },
			verify: " is out of order",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			rewriteFooter(t, dir, pieces, pieceLen, test.change)
			s, err := Open(dir, &Options{Memory: MinMemory, ReadOnly: true})
			if test.open != "" {
				if err == nil {
					_ = s.Close()
				}
				wantCorrupt(t, err, test.open)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ledger, err := s.Verify(t.Context())
			if test.verify != "" {
				wantCorrupt(t, err, test.verify)
				return
			}
			if err != nil || ledger.Pieces != 2*pieces || ledger.Bytes != 2*pieces*pieceLen {
				t.Errorf("Verify() = %+v, %v, want %d pieces", ledger, err, 2*pieces)
			}
		})
	}
}

// rewriteFooter creates a segment with two hot keys, and changes its footer, with a correct checksum.
func rewriteFooter(t *testing.T, dir string, pieces, pieceLen int, change func(seg *storedSegment)) {
	t.Helper()
	s, err := Open(dir, &Options{Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	for range pieces {
		value := make([]byte, pieceLen)
		if err := s.Append(t.Context(), partd.Entry{Key: "hot", Value: value}, partd.Entry{Key: "too", Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := *s.segments.list[0]
	if len(s.segments.list) != 1 || len(g.Hot) != 2 {
		t.Fatalf("the store has %d segments, and the first has %d hot keys, want 1 and 2", len(s.segments.list), len(g.Hot))
	}
	off := g.End - int64(len(g.EncodeFooter(&g.file.File, g.ledger.Append(nil), 0)))
	g.Hot = slices.Clone(g.Hot)
	change(&g)
	footer := g.EncodeFooter(&g.file.File, g.ledger.Append(nil), off)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(g.file.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(footer, off); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantCorrupt(t *testing.T, err error, text string) {
	t.Helper()
	var corrupt *partd.CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want a CorruptError with %q", err, text)
	}
}
