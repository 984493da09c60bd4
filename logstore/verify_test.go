package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
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
			verify: "199999 bytes, resets false, deleted false; the run has 200000 bytes",
		},
		"wrong reset flag": {
			change: func(seg *storedSegment) { seg.Hot[0].Resets = true },
			verify: "200000 bytes, resets true, deleted false; the run has 200000 bytes, resets false",
		},
		"wrong deleted flag": {
			change: func(seg *storedSegment) { seg.Hot[0].Deleted = true },
			verify: "resets false, deleted true; the run has 200000 bytes, resets false, deleted false",
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
			must.Do(t, err)
			defer s.Close()
			ledger, err := s.verify(t.Context())
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
	s := openWith(t, dir, &Options{Memory: MinMemory}, hooks{fs: osFS})
	for range pieces {
		value := make([]byte, pieceLen)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "hot", Value: value}, partd.Entry{Key: "too", Value: value}))
	}
	must.Do(t, s.Flush(t.Context()))
	g := *s.segments.list[0]
	if len(s.segments.list) != 1 || len(g.Hot) != 2 {
		t.Fatalf("the store has %d segments, and the first has %d hot keys, want 1 and 2", len(s.segments.list), len(g.Hot))
	}
	off := g.End - int64(len(g.EncodeFooter(&g.file.File, g.ledger.Append(nil), 0)))
	g.Hot = slices.Clone(g.Hot)
	change(&g)
	footer := g.EncodeFooter(&g.file.File, g.ledger.Append(nil), off)
	must.Do(t, s.Close())
	f := must.Get(os.OpenFile(g.file.Path, os.O_WRONLY, 0))(t)
	must.Get(f.WriteAt(footer, off))(t)
	must.Do(t, f.Close())
}

func wantCorrupt(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.As(err, new(*partd.CorruptError)) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want a CorruptError with %q", err, text)
	}
}

// TestMaxHotPerPart checks that of many hot keys in one part of a table, only the largest get runs
// of their own.
func TestMaxHotPerPart(t *testing.T) {
	s := openWith(t, "/s", nil, hooks{fs: vfstest.NewMem(), tableBytes: 1 << 20})
	defer s.Close()
	keys := 0
	for i := 0; keys < maxHotPerPart+4; i++ {
		key := fmt.Sprint(i)
		if s.format.Hash(key)>>(64-s.tables.bits) != 0 {
			continue // in another part
		}
		keys++
		mustAppend(t, s, key, strings.Repeat("v", 5000+100*keys))
	}
	must.Do(t, s.Flush(t.Context()))
	hot := s.segments.list[0].Hot
	if len(hot) != maxHotPerPart {
		t.Errorf("%d of %d hot keys have runs, want %d", len(hot), keys, maxHotPerPart)
	}
	for _, h := range hot {
		if h.Bytes <= 5000+100*4 {
			t.Errorf("a key of %d bytes has a run, although %d keys are larger", h.Bytes, maxHotPerPart)
		}
	}
	mustVerify(t, s)
}

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
			if _, err := collectParts(chunks); !errors.As(err, new(*partd.CorruptError)) {
				t.Errorf("%s, scan of all keys in %d parts (0: not divided): error %v, want a CorruptError", name, parts, err)
			}
		}
		s.segments.list[0].ledger = right
	}
	must.Get(collectParts(s.Scan(t.Context())))(t)
}
