package logstore

import (
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// journal makes changes: it writes records to the write-ahead log and inserts their entries into
// the active table. A full table is frozen and then sealed, that is, written as a segment.
// mu guards the fields from seq on.
type journal struct {
	*directory
	mu       *sync.Mutex // Store.mu
	format   *segment.Format
	catalog  *catalog
	segments *segmentList
	wal      *writeAhead
	tables   *memtables
	sealer   *sealer
	blobs    *blobWriter
	reclaim  *reclaiming

	maxSessions                    int
	considerMerge, considerReclaim func() // called with mu held when merging or reclaiming space may be due

	seq       uint64 // number of the next record
	editCount uint64 // number of changes to the content since Open, except drops
	sessions  sessionTable

	sealing        bool              // a goroutine is sealing the frozen table
	sealErr        error             // error from the last seal, if it failed
	sealDone       chan struct{}     // closed when the current seal ends
	setFrozenState func(m *manifest) // updates the manifest when the frozen table is sealed

	counters struct{ seals, sealFailures, stalls, stallTime atomic.Int64 } // for Metrics
}

// waitSealed waits until no table is being sealed (written as a segment). mu must be held; it is
// released during the wait.
func (j *journal) waitSealed() {
	for j.sealing {
		sealed := j.sealDone
		j.mu.Unlock()
		<-sealed
		j.mu.Lock()
	}
}

func (j *journal) activate(t *memtable, w *walFile) {
	t.reset()
	t.refs.Store(1)
	t.wal, t.firstSeq = w, j.seq
	j.tables.active = t
}

// writeBatch writes a record and inserts its entries into the active table. makeRoom must have made
// space for them. mu must be held.
func (j *journal) writeBatch(b *batch, h recordHeader) error {
	h.seq, h.synced = j.seq, j.wal.group.Synced()
	if err := j.tables.active.wal.write(b, h); err != nil {
		return err
	}
	j.seq++
	j.editCount++
	if len(b.offsets) == 0 {
		j.tables.active.emptyRecordBytes += recordHeaderLen + tagLen
	}
	j.sessions.apply(h, j.maxSessions)
	j.tables.active.insert(b)
	if j.reclaim.noteBatch(b, j.tables.active, j.segments.list) {
		j.considerReclaim()
	}
	return nil
}

// addSegments makes segments visible to readers. mu must be held.
func (j *journal) addSegments(added []*storedSegment) {
	j.editCount++
	old := j.segments.list
	j.segments.list = j.segments.limitIndex(append(old[:len(old):len(old)], added...))
	j.segments.wasteLimit.Store(0)
	j.reclaim.weights = nil
	j.segments.size.Add(sizeOf(added))
	j.considerMerge()
}

// diskUsed returns the size of all files.
func (j *journal) diskUsed() (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return 0, partd.ErrClosed
	}
	var n int64
	for _, f := range j.catalog.files.files() {
		info, err := f.f.Info()
		if err != nil {
			return 0, err
		}
		if f.Kind == segment.BlobFile {
			info.Size = min(info.Size, info.Disk) // holes take no space
		}
		n += info.Size
	}
	size, err := j.wal.size()
	return n + size, err
}

// allocate allocates the tables and the compressor, which only changes need.
func (j *journal) allocate(c Compression) error {
	var err error
	j.sealer.comp, err = segment.NewCompressor(segment.Codec(c))
	if err != nil {
		return err
	}
	return j.tables.allocate()
}
