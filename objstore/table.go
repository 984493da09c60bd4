package objstore

import (
	"io"
	"math/bits"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// table gathers entries in the order in which they were appended. They are put in
// the order of their hashes when the table becomes a segment.
type table struct {
	arena  []byte
	used   int
	refs   []tableRef
	sorted []uint32 // scratch of encode
	ledger segment.Ledger
}

// tableRef is an entry of a table.
type tableRef struct {
	off, len uint32
	part     uint16 // the upper bits of its hash
}

const (
	maxBits = 14 // of the hash that choose a range
	// minEntry is how many bytes of arena there are for each tableRef: entries that
	// are shorter fill a table before its arena is full.
	minEntry = 48
)

func newTable(size int64) (*table, error) {
	arena, err := offheap.Allocate(int(size))
	t := emptyTable(size)
	t.arena = arena
	return t, err
}

// emptyTable returns a table that gets its arena later.
func emptyTable(size int64) *table {
	n := int(size) / minEntry
	return &table{refs: make([]tableRef, 0, n), sorted: make([]uint32, 0, n)}
}

// refMemory is what a table of a size takes besides its arena.
func refMemory(size int64) int64 { return size / minEntry * (12 + 4) }

func (t *table) release() { offheap.Release(t.arena[:cap(t.arena)]) }

func (t *table) reset() {
	t.used, t.refs, t.ledger = 0, t.refs[:0], segment.Ledger{}
}

// fits reports whether so many entries, of so many bytes with their heads, fit in.
func (t *table) fits(entries int, bytes int64) bool {
	return int64(t.used)+bytes <= int64(len(t.arena)) && len(t.refs)+entries <= cap(t.refs)
}

// maxHead is the most that an entry has before its key.
const maxHead = 6

// cost is how many entries, and how many bytes at most, a value becomes.
func cost(keyLen, valueLen int) (entries int, bytes int64) {
	entries = max((valueLen+segment.MaxInline-1)/segment.MaxInline, 1)
	return entries, int64(entries*(maxHead+keyLen) + valueLen)
}

// add adds an entry that fits.
func (t *table) add(f *segment.Format, kind segment.Kind, key string, value []byte) {
	b := segment.AppendEntryHead(t.arena[t.used:t.used:len(t.arena)], kind, key, len(value))
	hashed := 1 // behind the number that begins it
	for b[hashed-1] >= 0x80 {
		hashed++
	}
	b = append(b, value...)
	t.ledger.AddEntry(kind, b[hashed:], len(value))
	t.refs = append(t.refs, tableRef{uint32(t.used), uint32(len(b)), uint16(f.Hash(key) >> 48)})
	t.used += len(b)
}

// encode makes a data file of one segment of the table's entries, in b.
func (t *table) encode(f *segment.File, b []byte, comp *segment.Compressor, bufs *[2][]byte, rangeBytes int64) ([]byte, error) {
	segBits := uint8(min(max(bits.Len64(uint64(int64(t.used)/rangeBytes))-1, 0), maxBits))
	// A stable sort by counting.
	var starts [1<<maxBits + 1]uint32
	shift := 16 - segBits
	for i := range t.refs {
		starts[t.refs[i].part>>shift+1]++
	}
	for i := range 1 << segBits {
		starts[i+1] += starts[i]
	}
	t.sorted = t.sorted[:len(t.refs)]
	at := starts
	for i := range t.refs {
		p := t.refs[i].part >> shift
		t.sorted[at[p]] = uint32(i)
		at[p]++
	}
	dst := &memoryFile{append(b[:0], f.EncodeHeader()...)}
	w := segment.NewWriter(f, dst, segment.HeaderLen, segBits, comp, *bufs)
	for r := range 1 << segBits {
		w.BeginRange(r)
		for _, i := range t.sorted[starts[r]:starts[r+1]] {
			ref := &t.refs[i]
			if err := w.Write(t.arena[ref.off:][:ref.len]); err != nil {
				return nil, err
			}
		}
		w.EndRange(r)
	}
	err := w.Finish(t.ledger.Append(nil))
	*bufs = w.Bufs()
	return dst.b, err
}

// encodedBound is at least what encode makes of a table: besides the entries, a head
// for each block, of which each range has one that is not full, and the footer.
func encodedBound(size int64) int64 {
	const block, perRange = 64 << 10, 12 + 4
	return size + (size/block+1<<maxBits)*perRange + 4096
}

// memoryFile is what a segment is written to from its beginning to its end.
type memoryFile struct{ b []byte }

func (m *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	m.b = append(m.b[:off], p...)
	return len(p), nil
}

// footerOf returns the footer of a data file of one segment, which is its end.
func footerOf(f segment.File, data []byte) ([]byte, error) {
	f.ReaderAt = &tail{0, data}
	layout, _, err := segment.ReadFooter(&f, int64(len(data)))
	if err != nil {
		return nil, err
	}
	// Its start is that of what follows the last range.
	return data[layout.Start+int64(layout.Off[len(layout.Off)-1]):], nil
}

// tail is a file of which the end is known.
type tail struct {
	from int64
	b    []byte
}

func (t *tail) ReadAt(p []byte, off int64) (int, error) {
	if off < t.from || off-t.from > int64(len(t.b)) {
		return 0, errOutside
	}
	n := copy(p, t.b[off-t.from:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
