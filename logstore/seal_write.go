package logstore

import (
	"bytes"
	"maps"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
)

// sealer turns tables into segments. It is used by one goroutine at a time: the
// one that seals, or Drop, bulk and recovery, which exclude it.
type sealer struct {
	catalog  *catalog
	segments *segments
	comp     *segment.Compressor
	bufs     [2][]byte // see segment.Writer.Bufs

	file   *dataFile   // of the last segment
	rotate atomic.Bool // the next segment goes to a new file
}

// write writes a table that no longer changes to the end of the segment
// file. The manifest does not know of it yet.
func (k *sealer) write(t *table) (*storedSegment, error) {
	f, err := k.fileFor()
	if err != nil {
		return nil, err
	}
	g, err := k.append(f, t)
	if err != nil {
		k.catalog.cutBack(f)
	}
	return g, err
}

// fileFor returns the file that the next segment goes to.
func (k *sealer) fileFor() (*dataFile, error) {
	f := k.file
	// Asked first: the file that a merge reads from, it may shorten meanwhile.
	if f != nil && !k.rotate.Load() && f.end < k.segments.fileSize() {
		return f, nil
	}
	// A bulk that failed may have left an empty one behind it.
	files := k.catalog.files.files()
	at := slices.Index(files, f)
	after := files[at+1:]
	next := slices.IndexFunc(after, func(g *dataFile) bool { return g.Kind == segment.SegmentFile })
	if at >= 0 && next >= 0 && after[next].end == segment.HeaderLen {
		f = after[next]
	} else {
		var err error
		if f, err = k.catalog.add(segment.SegmentFile); err != nil {
			return nil, err
		}
	}
	k.file = f
	k.rotate.Store(false)
	return f, nil
}

func (k *sealer) append(f *dataFile, t *table) (*storedSegment, error) {
	// A table that is not full gives fewer ranges, of 4 KiB and more.
	segBits := min(t.bits, uint8(max(bits.Len64(uint64(t.size)>>12), 1)-1))
	w := segment.NewWriter(&f.File, f.f, f.end, segBits, k.comp, k.bufs)
	defer func() { k.bufs = w.Bufs() }()

	perRange := 1 << (t.bits - segBits)
	hot := map[int][]segment.HotRun{} // by part
	for r := range 1 << segBits {
		w.BeginRange(r)
		for p := r * perRange; p < (r+1)*perRange; p++ {
			keys, err := k.hotKeys(t, p)
			if err == nil && len(keys) == 0 {
				for _, b := range t.blocksOf(t.parts[p]) {
					if err = w.Write(b); err != nil {
						break
					}
				}
			} else if err == nil {
				hot[p] = keys
				err = t.writeEntries(w, p, func(key []byte) bool { return !isHot(keys, key) })
			}
			if err != nil {
				return nil, err
			}
		}
		w.EndRange(r)
	}
	for _, p := range slices.Sorted(maps.Keys(hot)) {
		for _, h := range hot[p] {
			w.BeginRun()
			if err := t.writeEntries(w, p, func(key []byte) bool { return bytes.Equal(key, h.Key) }); err != nil {
				return nil, err
			}
			w.EndRun(h)
		}
	}
	if err := w.Finish(t.ledger.append(nil)); err != nil {
		return nil, err
	}
	f.dirty.Store(true)
	return &storedSegment{Layout: w.Layout, file: f, ledger: t.ledger}, nil
}

// writeEntries writes the entries of a part whose keys are chosen.
func (t *table) writeEntries(w *segment.Writer, p int, choose func(key []byte) bool) error {
	return segment.EachEntry(t.source(t.parts[p]), func(e *segment.Entry) error {
		if !choose(e.Key) {
			return nil
		}
		return w.Write(e.Raw)
	})
}
