package objstore

import (
	"io"
	"math/bits"

	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// table buffers entries in append order.
type table struct {
	arena  []byte
	used   int
	refs   []tableRef
	sorted []uint32 // scratch buffer of encode
	ledger segment.Ledger
}

// tableRef locates an entry in a table.
type tableRef struct {
	offset, length uint32
	hashPrefix     uint16 // upper 16 bits of the key's hash
}

const (
	maxBits = 14 // a segment's entries are divided by key hash into at most 1<<maxBits hash ranges
	// bytesPerRef is the number of arena bytes for each tableRef. If entries are shorter on average, a
	// table is full before its arena is.
	bytesPerRef = 48
)

func newTable(size int64) (*table, error) {
	arena, err := offheap.Allocate(int(size))
	t := emptyTable(size)
	t.arena = arena
	return t, err
}

func emptyTable(size int64) *table {
	n := int(size) / bytesPerRef
	return &table{refs: make([]tableRef, 0, n), sorted: make([]uint32, 0, n)}
}

// refMemory returns the memory that a table of the given size needs besides its arena.
func refMemory(size int64) int64 { return size / bytesPerRef * (12 + 4) }

func (t *table) release() { offheap.Release(t.arena[:cap(t.arena)]) }

func (t *table) reset() {
	t.used, t.refs, t.ledger = 0, t.refs[:0], segment.Ledger{}
}

// canHold reports whether the table has space for more entries whose total encoded length is bytes.
func (t *table) canHold(entries int, bytes int64) bool {
	return int64(t.used)+bytes <= int64(len(t.arena)) && len(t.refs)+entries <= cap(t.refs)
}

// maxHead is the maximum length of an entry before its key.
const maxHead = 6

// cost returns the number of entries that a value needs, and an upper bound on their encoded length.
func cost(keyLen, valueLen int) (entries int, bytes int64) {
	entries = max((valueLen+segment.MaxInline-1)/segment.MaxInline, 1)
	return entries, int64(entries*(maxHead+keyLen) + valueLen)
}

// add appends an entry, which must fit.
func (t *table) add(f *segment.Format, kind segment.Kind, key string, value []byte) {
	b := segment.AppendEntryHead(t.arena[t.used:t.used:len(t.arena)], kind, key, len(value))
	hashStart := 1 // skip the first field, the varint of the value's length: the ledger's checksum excludes it
	for b[hashStart-1] >= 0x80 {
		hashStart++
	}
	b = append(b, value...)
	t.ledger.AddEntry(kind, b[hashStart:], len(value))
	t.refs = append(t.refs, tableRef{uint32(t.used), uint32(len(b)), uint16(f.Hash(key) >> 48)})
	t.used += len(b)
}

// encode returns a data file with one segment: the table's entries, sorted by hash range. It writes to
// the memory of b if b is large enough. It may replace the scratch buffers bufs with larger ones.
func (t *table) encode(
	f *segment.File, b []byte, compressor *segment.Compressor, bufs *[2][]byte, rangeBytes int64,
) ([]byte, error) {
	rangeBits := uint8(min(max(bits.Len64(uint64(int64(t.used)/rangeBytes))-1, 0), maxBits))
	// Stable counting sort by range.
	var starts [1<<maxBits + 1]uint32
	shift := 16 - rangeBits
	for i := range t.refs {
		starts[t.refs[i].hashPrefix>>shift+1]++
	}
	for i := range 1 << rangeBits {
		starts[i+1] += starts[i]
	}
	t.sorted = t.sorted[:len(t.refs)]
	positions := starts
	for i := range t.refs {
		r := t.refs[i].hashPrefix >> shift
		t.sorted[positions[r]] = uint32(i)
		positions[r]++
	}
	dst := &memoryFile{append(b[:0], f.EncodeHeader()...)}
	w := segment.NewWriter(f, dst, segment.HeaderLen, rangeBits, compressor, *bufs)
	for r := range 1 << rangeBits {
		w.BeginRange(r)
		for _, i := range t.sorted[starts[r]:starts[r+1]] {
			ref := &t.refs[i]
			if err := w.Write(t.arena[ref.offset:][:ref.length]); err != nil {
				return nil, err
			}
		}
		w.EndRange(r)
	}
	err := w.Finish(t.ledger.Append(nil))
	*bufs = w.Buffers()
	return dst.b, err
}

// maxEncodedSize returns an upper bound on the length of encode's result for a table of the given
// size.
func maxEncodedSize(size int64) int64 {
	const block, perRange = 64 << 10, 12 + 4
	return size + (size/block+1<<maxBits)*perRange + 4096
}

// memoryFile is a file in memory that must be written sequentially.
type memoryFile struct{ b []byte }

func (m *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	m.b = append(m.b[:off], p...)
	return len(p), nil
}

// footerOf returns the footer at the end of a data file with one segment.
func footerOf(f segment.File, data []byte) ([]byte, error) {
	f.ReaderAt = &fileTail{0, data}
	layout, _, err := segment.ReadFooter(&f, int64(len(data)))
	if err != nil {
		return nil, err
	}
	// The footer starts after the last range.
	return data[layout.Start+int64(layout.Offsets[len(layout.Offsets)-1]):], nil
}

// fileTail is an io.ReaderAt for a file whose bytes before offset off are not available.
type fileTail struct {
	off int64
	b   []byte
}

func (t *fileTail) ReadAt(p []byte, off int64) (int, error) {
	if off < t.off || off-t.off > int64(len(t.b)) {
		return 0, errOutOfRange
	}
	n := copy(p, t.b[off-t.off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
