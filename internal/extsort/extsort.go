// Package extsort stably sorts more records than fit in memory. It compares their keys as
// bytes. The Append functions encode numbers and texts as such keys, and Invert reverses
// the order of an encoding.
//
// Records are copied into slots, which are large pieces of memory. A full slot is sorted in the
// background. When its memory is needed, it is written to a temporary file as a run. At
// the end, the runs and the slots still in memory are merged. The sorter verifies that the
// input and the output have the same record count and checksum.
//
// Several goroutines can add records, each with its own writer from [Sorter.Writer] or
// [Sorter.Batch]. After all writers are closed, one goroutine ranges over [Sorter.Sorted],
// once, and calls Close.
package extsort

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
)

// MinMemory is the minimum memory of a sorter, in bytes.
const MinMemory = spill.MinMemory

// Options configures a [Sorter]. nil means the zero value.
type Options struct {
	// Memory is the maximum memory in bytes. 0 means [spill.DefaultMemory]; the minimum is
	// [MinMemory]. A record with its key must be smaller than a fortieth of Memory.
	Memory int64
	// Threads is the number of slots to sort at the same time. 0 means GOMAXPROCS.
	Threads int
	// Temp is the directory for runs. nil means a new directory in os.TempDir.
	Temp *tempdir.Set
	// KeepKeys adds the keys to the output.
	KeepKeys bool
}

// Stats holds statistics about a sorter.
type Stats struct {
	Records int64         // number of input records
	Bytes   int64         // total size of input records, without keys
	Sum     ledger.Sum128 // sum of each record's xxh3-128; with KeepKeys, of (key length as a uvarint, key, record)
	Runs    int64         // runs written, including merged runs
	Passes  int           // maximum number of merges of a record, including the last merge
	Written int64         // total size of the runs in bytes
}

// ErrTooLarge means that a record is too large for the sorter's memory. It wraps
// [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the record is %w for the memory of the sort", partd.ErrTooLarge)

// Sorter sorts records.
type Sorter struct {
	spill.Engine
	opts  Options
	sizes sizes

	// Mu guards the fields below.
	nextBatch    uint64 // number of the next batch to copy into slots
	seq          int64  // number of the next slot: see slot.seq
	current      *slot  // the current slot, which receives records, or nil
	free         []*slot
	slots        []*slot // all slots
	sorted       []*slot // sorted slots in memory, by seq
	runs         []*run  // runs in files, by seq
	sortingCount int     // number of full slots that are not sorted yet
	spillCount   int     // number of slots being written
	merging      bool    // mergeEarly is merging runs
	stats        Stats
	buffers      [][]byte // unused buffers for writers

	sortPermits chan struct{} // semaphore for sorting slots
	readLock    sync.Mutex    // held while a block is read ahead, so that only one is read at a time
	dropLock    sync.Mutex    // held while the disk space of read blocks is freed
}

// sizes holds sizes that depend on the sorter's memory, in bytes unless noted.
type sizes struct {
	slot          int // a slot
	block         int // a block of a run; a longer record has its own block
	buffer        int // a writer's buffer, and an output block
	bufferRecords int // maximum number of records in a writer's buffer, so that their entries fit in a slot
	maxRecord     int // maximum size of a record with its key
}

const (
	maxSlots     = 8
	outputBlocks = 3 // output blocks, which are reused in turn
)

func sizesFor(memory int64) sizes {
	slot := int(memory*8/10/maxSlots) &^ (1<<12 - 1)
	buffer := max(min(slot/16, 512<<10), 1<<10)
	return sizes{slot: slot, block: min(buffer, 256<<10), buffer: buffer, bufferRecords: slot / 4 / (2 * entrySize), maxRecord: slot/4 - 64}
}

// MaxRecord returns the maximum size of a record with its key, if the sorter may use memory bytes.
func MaxRecord(memory int64) int { return sizesFor(memory).maxRecord }

// New returns a sorter. It stops when ctx ends.
func New(ctx context.Context, o *Options) (*Sorter, error) {
	s := &Sorter{opts: *cmp.Or(o, new(Options))}
	s.Memory, s.Threads, s.Temp = s.opts.Memory, s.opts.Threads, s.opts.Temp
	if err := s.Start(ctx, "sorting", 1); err != nil {
		return nil, err
	}
	s.sizes = sizesFor(s.Memory)
	s.sortPermits = make(chan struct{}, s.Threads)
	return s, nil
}

// Stats returns statistics about the work done so far.
func (s *Sorter) Stats() Stats {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.stats
}

// Close stops background work and removes all temporary data. It must not be called during a
// loop over Sorted.
func (s *Sorter) Close() error {
	return s.Engine.Close(func() error {
		var errs []error
		for _, r := range s.runs {
			errs = append(errs, r.Close())
		}
		for _, m := range s.slots {
			offheap.Release(m.mem)
		}
		s.runs, s.slots, s.sorted, s.free, s.current, s.buffers = nil, nil, nil, nil, nil, nil
		return errors.Join(errs...)
	})
}
