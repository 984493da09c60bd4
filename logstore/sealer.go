package logstore

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/engine/segment"
)

// sealer writes tables as segments. Only one goroutine may use it at a time: the goroutine that
// runs seal or, while seal does not run, a Drop, a bulk operation or recovery.
type sealer struct {
	catalog  *catalog
	segments *segmentList
	comp     *segment.Compressor
	bufs     [2][]byte // buffers to reuse for the next segment

	entries   segment.EntryReader // its memory is reused for all parts
	spans     []byte              // memory for spans
	freeSpans []byte              // the unused part of spans

	file   *dataFile   // file for the next segment
	rotate atomic.Bool // use a new file, because a merge of segments in file is running
	probe  cacheProbe
}

// write appends a frozen table to a segment file. The caller must add the segment to the manifest.
func (sl *sealer) write(t *memtable) (*storedSegment, error) {
	f, err := sl.fileFor()
	if err != nil {
		return nil, err
	}
	seg, err := sl.append(f, t)
	if err != nil {
		sl.catalog.truncateTail(f)
	}
	return seg, err
}

func (sl *sealer) fileFor() (*dataFile, error) {
	f := sl.file
	// If rotate is set, a merge of f's segments may be changing f.end, so check rotate first.
	if f != nil && !sl.rotate.Load() && f.end < sl.segments.fileSize() {
		return f, nil
	}
	// A failed bulk operation may have left an empty file after f.
	files := sl.catalog.files.files()
	i := slices.Index(files, f)
	laterFiles := files[i+1:]
	nextIndex := slices.IndexFunc(laterFiles, func(g *dataFile) bool { return g.Kind == segment.SegmentFile })
	if i >= 0 && nextIndex >= 0 && laterFiles[nextIndex].end == segment.HeaderLen {
		f = laterFiles[nextIndex]
	} else {
		var err error
		f, err = sl.catalog.add(segment.SegmentFile)
		if err != nil {
			return nil, err
		}
	}
	sl.file = f
	sl.rotate.Store(false)
	return f, nil
}

func (sl *sealer) append(f *dataFile, t *memtable) (*storedSegment, error) {
	// Write a partly filled table with fewer ranges, of at least 4 KiB each.
	segBits := min(t.bits, uint8(max(bits.Len64(uint64(t.size)>>12), 1)-1))
	w := segment.NewWriter(&f.File, sl.probe.output(f), f.end, segBits, sl.comp, sl.bufs)
	defer func() { sl.bufs = w.Buffers() }()
	defer sl.entries.Reset(nil) // so that entries does not retain t

	perRange := 1 << (t.bits - segBits)
	sl.freeSpans = sl.spans
	var hot []*hotPart
	for r := range 1 << segBits {
		w.BeginRange(r)
		for p := r * perRange; p < (r+1)*perRange; p++ {
			h, err := sl.hotKeys(t, p)
			if err != nil {
				return nil, err
			}
			if h == nil {
				err = segment.EachBlock(t.source(t.parts[p]), w.Write)
			} else {
				hot = append(hot, h)
				err = h.write(w, t, -1)
			}
			if err != nil {
				return nil, err
			}
		}
		w.EndRange(r)
	}
	for _, h := range hot {
		for i, run := range h.runs {
			w.BeginRun()
			if err := h.write(w, t, i); err != nil {
				return nil, err
			}
			w.EndRun(run)
		}
	}
	if err := w.Finish(t.ledger.Append(nil)); err != nil {
		return nil, err
	}
	f.dirty.Store(true)
	seg := &storedSegment{Layout: w.Layout, file: f, ledger: t.ledger}
	sl.probe.add(f, seg.Start, seg.End, len(t.arena))
	return seg, nil
}

// hotKeys returns the hot keys in a part, largest first. It returns nil if no key is hot.
func (sl *sealer) hotKeys(t *memtable, part int) (*hotPart, error) {
	size := int64(t.parts[part].size)
	minBytes := t.hotBytes()
	if size < minBytes || sl.segments.hotFull.Load() {
		return nil, nil
	}
	// A sample from the start of the part usually shows that no key is hot. Do not sample
	// unusually large parts, which probably have a hot key.
	if size < int64(len(t.arena))/64 {
		sample, err := countKeys(&sl.entries, t.source(t.parts[part]), hotSample, nil)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(sample.keys, func(k keySize) bool { return k.encodedLen*size >= minBytes*sample.total/4*3 }) {
			return nil, nil
		}
	}
	if sl.spans == nil {
		sl.spans = make([]byte, 0, len(t.arena)/64)
		sl.freeSpans = sl.spans
	}
	sizes, err := countKeys(&sl.entries, t.source(t.parts[part]), math.MaxInt64, sl.freeSpans)
	if err != nil {
		return nil, err
	}
	var hot []keySize
	for _, k := range sizes.keys {
		if k.encodedLen >= minBytes && len(k.key) <= segment.MaxHotKey {
			hot = append(hot, k)
		}
	}
	if len(hot) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(hot, func(a, b keySize) int { return cmp.Compare(b.encodedLen, a.encodedLen) })
	h := &hotPart{part: t.parts[part]}
	for _, k := range hot[:min(len(hot), maxHotPerPart)] {
		h.ids = append(h.ids, k.id)
		h.runs = append(h.runs, segment.HotRun{
			Hash: sl.catalog.format.Hash(k.key), Key: []byte(k.key),
			Bytes: k.valueLen, Resets: k.resets, Deleted: k.deleted,
		})
	}
	if !sizes.spans.full {
		h.spans = sizes.spans.list
		sl.freeSpans = h.spans[len(h.spans):]
	}
	return h, nil
}
