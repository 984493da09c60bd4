// Package extsort stably sorts records that may not fit in memory. It compares their keys as
// bytes. The Append functions encode numbers and strings as keys.
//
// Records are copied into slots, which are large pieces of memory. A full slot is sorted in the
// background. When its memory is needed, its records are written to a temporary file, called a
// run. At the end, the runs and the slots still in memory are merged. The sorter verifies that
// the input and the output have the same record count and checksum.
//
// Several goroutines can add records, each with its own writer from [Sorter.Writer] or
// [Sorter.Batch]. After all writers are closed, one goroutine ranges over [Sorter.Sorted] once and
// calls Close.
package extsort

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
)

// MinMemory is the minimum memory for a sorter, in bytes.
const MinMemory = spill.MinMemory

// Options configures a [Sorter].
type Options struct {
	// Memory is the maximum memory in bytes; 0 means [spill.DefaultMemory]. A record with its
	// key must be smaller than a fortieth of Memory.
	Memory   int64
	Threads  int          // number of slots to sort at the same time; 0 means GOMAXPROCS
	Temp     *tempdir.Set // directory for runs; nil means a new directory in os.TempDir
	KeepKeys bool         // add the keys to the output
}

// Stats holds statistics about a sorter.
type Stats struct {
	Records int64         // number of input records
	Bytes   int64         // total size of input records, without keys
	Sum     ledger.Sum128 // sum of each record's xxh3-128; with KeepKeys, of (key length as a uvarint, key, record)
	Runs    int64         // number of runs written, including the results of merges
	Passes  int           // maximum number of times that a record was merged
	Written int64         // total size of the runs in bytes
}

// ErrTooLarge means that a record is too large for the sorter's memory. It wraps
// [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the record is %w for the memory of the sort", partd.ErrTooLarge)

// Sorter sorts records; see the package documentation.
type Sorter struct {
	spill.Engine
	opts  Options
	sizes sizes

	// Mu guards the fields below.
	nextBatch    uint64 // number of the next batch to copy into slots
	seq          int64  // slot.seq of the next slot
	current      *slot  // slot that receives records, or nil
	free         []*slot
	slots        []*slot // all slots
	sorted       []*slot // sorted slots in memory, in any order
	runs         []*run  // ordered by seq
	presorted    []*Presorted
	sortingCount int  // number of full slots that are not sorted yet
	spillCount   int  // number of slots being written to files
	merging      bool // mergeEarly is merging runs
	stats        Stats
	buffers      [][]byte // unused buffers for writers

	sortPermits chan struct{} // semaphore: limits the slots sorted at the same time to Threads
	readLock    sync.Mutex    // held while a block is read ahead, so that only one is read at a time
	dropLock    sync.Mutex    // held while the disk space of blocks that have been read is freed
}

// sizes holds sizes in bytes that depend on the sorter's memory.
type sizes struct {
	slot          int
	block         int // size of a block in a run; a longer record has its own block
	buffer        int // size of a writer's buffer and of an output block
	bufferRecords int // maximum number of records in a writer's buffer; a slot has room for their entries
	maxRecord     int // maximum size of a record with its key
}

const (
	maxSlots     = 8
	outputBlocks = 3 // number of output blocks, which are reused
)

func sizesFor(memory int64) sizes {
	slot := int(memory*8/10/maxSlots) &^ (1<<12 - 1)
	buffer := max(min(slot/16, 512<<10), 1<<10)
	return sizes{slot: slot, block: min(buffer, 256<<10), buffer: buffer, bufferRecords: slot / 4 / (2 * entrySize), maxRecord: slot/4 - 64}
}

// MaxRecord returns the maximum size of a record with its key, for Options.Memory = memory.
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

// Stats returns the current statistics.
func (s *Sorter) Stats() Stats {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.stats
}

// Close stops background work and removes all temporary data. It must not be called in a loop
// over Sorted.
func (s *Sorter) Close() error {
	return s.Engine.Close(func() error {
		var errs []error
		for _, r := range s.runs {
			errs = append(errs, r.Close())
		}
		s.releaseSlots()
		s.runs, s.sorted, s.current, s.buffers = nil, nil, nil, nil
		return errors.Join(errs...)
	})
}

func (s *Sorter) releaseSlots() {
	for _, m := range s.slots {
		offheap.Release(m.mem)
	}
	s.slots, s.free = nil, nil
}
