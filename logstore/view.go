package logstore

import (
	"math"
	"slices"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/engine/segment"
)

// views creates views of the store. The data that it reads belongs to other parts of the store;
// Store.mu guards it.
type views struct {
	*directory
	mu       *sync.Mutex // Store.mu
	format   *segment.Format
	catalog  *catalog
	segments *segmentList
	tables   *memtables
}

// view is the content of the store at one moment. The caller must close it.
type view struct {
	views      *views // creator of the view
	files      *fileSet
	version    *version
	segments   []*storedSegment
	tables     []tableView // newer than all segments, oldest first
	slowReader bool        // the view is counted in tables.slowReaders
}

// tableView is a table at the time of the view.
type tableView struct {
	table  *memtable
	base   int    // number of the first part in parts
	parts  []part // copies of consecutive parts of the table
	ledger segment.Ledger
}

// releaseTables stops counting the view as a slow reader. mu must be held.
func (v *view) releaseTables() {
	if v.slowReader {
		v.slowReader = false
		v.views.tables.slowReaders--
	}
}

// close releases the view's tables and files. Store.mu must not be held.
func (v *view) close() error {
	v.views.mu.Lock()
	defer v.views.mu.Unlock()
	return v.release()
}

// release is like close, but Store.mu must be held.
func (v *view) release() error {
	for _, t := range v.tables {
		v.views.tables.release(t.table)
	}
	v.tables = nil
	v.releaseTables()
	v.views.segments.release(v.version)
	return v.files.release()
}

// sourceCount returns the number of sources in the view. A source is a segment or a table. Sources
// are numbered from 0: first the segments, then the tables, from the oldest to the newest.
func (v *view) sourceCount() int { return len(v.segments) + len(v.tables) }

func (v *view) ledger() segment.Ledger {
	l := ledgerOf(v.segments)
	for i := range v.tables {
		l.Add(v.tables[i].ledger)
	}
	return l
}

// keySource returns the entries in a source that may belong to a key. If the source has a hot run
// for the key, these are the entries in the run, and hot describes it. Otherwise hot is nil, and src
// has all entries of the hash range that contains the key.
func (v *view) keySource(
	source int, hash uint64, key []byte, r *segment.Reader,
) (src segment.Source, hot *segment.HotRun) {
	if h := v.findHotRun(source, hash, key); h != nil {
		return v.segments[source].openHotRun(r, h), h
	}
	return v.rangeSource(source, hash, r), nil
}

// findHotRun returns the key's hot run in a source, or nil.
func (v *view) findHotRun(source int, hash uint64, key []byte) *segment.HotRun {
	if source >= len(v.segments) {
		return nil
	}
	return segment.FindHot(v.segments[source].Hot, hash, key)
}

func (t *tableView) source(hash uint64) segment.Source {
	return t.table.source(t.parts[segment.RangeIndex(hash, t.table.bits)-t.base])
}

// locateError adds the segment's file and position to err if source is a segment and err means that
// an entry could not be decoded. It returns other errors unchanged.
func (v *view) locateError(source int, err error) error {
	if err != segment.ErrBadEntry && err != segment.ErrShortEntry || source >= len(v.segments) {
		return err
	}
	seg := v.segments[source]
	return seg.file.Corrupt(seg.Start, err)
}

func (v *view) appendBlob(dst []byte, encoded []byte) ([]byte, error) {
	var r segment.BlobReader
	if err := v.files.openBlob(encoded, &r); err != nil {
		return dst, err
	}
	if need := len(dst) + int(r.Ref.Length); need > cap(dst) {
		dst = append(make([]byte, 0, need), dst...)
	}
	err := segment.EachBlock(&r, func(b []byte) error {
		dst = append(dst, b...)
		return nil
	})
	return dst, err
}

// viewOfSegments returns a view of the given segments, without tables. mu must be held.
func (vs *views) viewOfSegments(segments []*storedSegment) *view {
	vs.catalog.files.refs.Add(1)
	return &view{views: vs, files: vs.catalog.files, version: vs.segments.acquire(), segments: segments}
}

// viewOfRange returns a view of the keys with hashes in [lo, hi]. mu must be held. The
// caller must close the view.
func (vs *views) viewOfRange(lo, hi uint64) (*view, error) {
	if vs.directory == nil {
		return nil, storeerror.ErrNotOpened
	}
	if vs.closed {
		return nil, partd.ErrClosed
	}
	if vs.tables.walErr != nil {
		return nil, vs.tables.walErr
	}
	v := vs.viewOfSegments(vs.segments.list)
	for _, t := range vs.tables.inUse() {
		if t.size == 0 {
			continue
		}
		t.refs.Add(1)
		firstPart, lastPart := segment.RangeIndex(lo, t.bits), segment.RangeIndex(hi, t.bits)
		v.tables = append(v.tables, tableView{t, firstPart, slices.Clone(t.parts[firstPart : lastPart+1]), t.ledger})
	}
	return v, nil
}

// finestBits returns the largest number of hash bits that select a range in any segment or table.
func (v *view) finestBits() uint8 {
	var finest uint8
	for _, seg := range v.segments {
		finest = max(finest, seg.Bits)
	}
	for _, t := range v.tables {
		finest = max(finest, t.table.bits)
	}
	return finest
}

// rangeSource returns the entries of a source in the range to which hash belongs. For a segment,
// rangeSource omits the entries of hot keys. For the numbers of sources, see sourceCount.
func (v *view) rangeSource(source int, hash uint64, r *segment.Reader) segment.Source {
	if source >= len(v.segments) {
		return v.tables[source-len(v.segments)].source(hash)
	}
	return v.segments[source].openRanges(r, hash, hash)
}

// copyTables copies the view's part of each table to the heap and releases the table. The view must
// have exactly one part of each table. copyTables skips large parts.
func (v *view) copyTables() {
	v.views.mu.Lock()
	defer v.views.mu.Unlock()
	large := false
	for i := range v.tables {
		t := &v.tables[i]
		if t.parts[0].size > maxOpenCopy {
			large = true
			continue
		}
		c := &memtable{chunkSize: max(t.parts[0].size, 1), bits: t.table.bits}
		for _, b := range t.table.blocksOf(t.parts[0]) {
			c.arena = append(c.arena, b...)
		}
		c.refs.Store(math.MaxInt32 / 2) // never released, because it is on the heap
		v.views.tables.release(t.table)
		*t = tableView{table: c, base: t.base, parts: []part{{size: len(c.arena), chunks: []uint32{0}}}}
	}
	if !large {
		v.releaseTables()
	}
}

// maxOpenCopy is the maximum size of a table part that a reader of one key copies, in bytes. If a part is
// larger, the reader flushes the tables and reads segments instead, because a table cannot be reused
// while a reader uses it.
const maxOpenCopy = 1 << 20

// scanBits returns the number of hash bits that select a range of the scan; partitions consist of
// such ranges. Segments and tables have ranges of different widths. To load a partition that is
// only a part of a segment's range, the scan must read that whole range. If this would waste many
// bytes, scanBits chooses wider ranges, of at most limit bytes.
func (v *view) scanBits(limit int64) uint8 {
	var total int64
	var sizes [64]int64 // bytes of the sources, by their number of bits
	add := func(bits uint8, n int64) {
		sizes[bits] += n
		total += n
	}
	for _, seg := range v.segments {
		add(seg.Bits, seg.rangesSize(0, len(seg.Offsets)-1))
	}
	for i := range v.tables {
		for _, p := range v.tables[i].parts {
			add(v.tables[i].table.bits, int64(p.size))
		}
	}
	bits := v.finestBits()
	for ; bits > 0 && total>>(bits-1) <= limit; bits-- {
		var wider int64
		for b, n := range sizes[:bits] {
			wider += n >> b
		}
		if wider <= max(maxBatchBytes, total>>bits)/4 {
			break
		}
	}
	return bits
}
