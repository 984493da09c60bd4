package objstore

import (
	"io"
	"math/bits"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// table collects entries in the order of appends. encode sorts them by hash into a segment.
type table struct {
	arena  []byte
	used   int
	refs   []tableRef
	sorted []uint32 // scratch buffer of encode
	ledger segment.Ledger
}

// tableRef locates an entry of a table.
type tableRef struct {
	offset, length uint32
	hashPrefix     uint16 // upper bits of the key's hash
}

const (
	maxBits = 14 // maximum number of hash bits that select a range
	// bytesPerRef is the size of the arena per tableRef. Entries that are shorter on average fill the refs
	// before the arena is full.
	bytesPerRef = 48
)

func newTable(size int64) (*table, error) {
	arena, err := offheap.Allocate(int(size))
	t := emptyTable(size)
	t.arena = arena
	return t, err
}

// emptyTable returns a table without an arena.
func emptyTable(size int64) *table {
	n := int(size) / bytesPerRef
	return &table{refs: make([]tableRef, 0, n), sorted: make([]uint32, 0, n)}
}

// refMemory returns the memory of a table besides its arena.
func refMemory(size int64) int64 { return size / bytesPerRef * (12 + 4) }

func (t *table) release() { offheap.Release(t.arena[:cap(t.arena)]) }

func (t *table) reset() {
	t.used, t.refs, t.ledger = 0, t.refs[:0], segment.Ledger{}
}

// canHold reports whether the table has space for that many more entries, with a total encoded
// length of bytes.
func (t *table) canHold(entries int, bytes int64) bool {
	return int64(t.used)+bytes <= int64(len(t.arena)) && len(t.refs)+entries <= cap(t.refs)
}

// maxHead is the maximum length of an entry before its key.
const maxHead = 6

// cost returns the number of entries for a value, and an upper bound of their encoded length.
func cost(keyLen, valueLen int) (entries int, bytes int64) {
	entries = max((valueLen+segment.MaxInline-1)/segment.MaxInline, 1)
	return entries, int64(entries*(maxHead+keyLen) + valueLen)
}

// add appends an entry, which must fit.
func (t *table) add(f *segment.Format, kind segment.Kind, key string, value []byte) {
	b := segment.AppendEntryHead(t.arena[t.used:t.used:len(t.arena)], kind, key, len(value))
	hashStart := 1 // the ledger's checksum excludes the first field, the value's length as a varint
	for b[hashStart-1] >= 0x80 {
		hashStart++
	}
	b = append(b, value...)
	t.ledger.AddEntry(kind, b[hashStart:], len(value))
	t.refs = append(t.refs, tableRef{uint32(t.used), uint32(len(b)), uint16(f.Hash(key) >> 48)})
	t.used += len(b)
}

// encode returns a data file with one segment of the table's entries. It writes to b if b is large
// enough. bufs are scratch buffers, which encode may replace with larger ones.
func (t *table) encode(f *segment.File, b []byte, compressor *segment.Compressor, bufs *[2][]byte, rangeBytes int64) ([]byte, error) {
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

// maxEncodedSize returns an upper bound of the length of encode's result for a table of this size.
// Besides the entries, the result contains block headers and a footer. Each range may end with an
// incomplete block.
func maxEncodedSize(size int64) int64 {
	const block, perRange = 64 << 10, 12 + 4
	return size + (size/block+1<<maxBits)*perRange + 4096
}

// memoryFile is a file in memory that is written sequentially.
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

// fileTail is an io.ReaderAt for the end of a file, from offset off.
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
