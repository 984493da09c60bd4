// Package extsort stably sorts records that need not fit in memory, by keys that are
// compared as bytes. The Append functions encode numbers and texts as such keys, and
// Invert reverses their order.
//
// Records are copied into slots of memory. A full slot is sorted in the background, and
// stays in memory until the memory is needed. Then it is written to a temporary file as a
// run. At the end, the runs and the slots still in memory are merged. The sorter compares
// the count and the checksum of the input records and the output records.
//
// Several goroutines call [Sorter.Writer] or [Sorter.Batch], add records and close their
// writers. Then one goroutine ranges over [Sorter.Sorted], once, and calls Close.
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

// Options configures a [Sorter]. The zero value and nil mean the defaults.
type Options struct {
	// Memory limits the bytes of memory that the sorter uses. 0 means
	// [spill.DefaultMemory]; the minimum is [MinMemory]. A record with its key must be
	// smaller than a fortieth of it.
	Memory int64
	// Threads is the number of slots sorted at the same time. 0 means GOMAXPROCS.
	Threads int
	// Temp receives the runs. nil means a new directory in os.TempDir.
	Temp *tempdir.Set
	// KeepKeys includes the keys in the output.
	KeepKeys bool
}

// Stats describes the work of a sorter.
type Stats struct {
	Records int64         // input records
	Bytes   int64         // of input records, without keys
	Sum     ledger.Sum128 // of the xxh3-128 of each record, or with KeepKeys of (length of the key as a uvarint, key, record)
	Runs    int64         // runs written, including runs of further merge passes
	Passes  int           // maximum number of merges of any record, including the last merge
	Written int64         // bytes of all runs
}

// ErrTooLarge is wrapped by the error for a record that is too large for the sorter's
// memory. It wraps [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the record is %w for the memory of the sort", partd.ErrTooLarge)

// Sorter sorts records. Several goroutines may each use a writer.
type Sorter struct {
	spill.Engine
	opts  Options
	sizes sizes

	// Mu guards the fields below.
	nextBatch uint64 // the batch whose records come next
	seq       int64  // of the next slot
	filling   *slot
	free      []*slot
	slots     []*slot // all slots
	sorted    []*slot // in memory, by seq
	runs      []*run  // in files, by seq
	sorting   int     // slots being sorted, or waiting for that
	spills    int     // slots being written
	merging   bool    // mergeEarly is merging runs
	stats     Stats
	buffers   [][]byte

	cpu  chan struct{} // semaphore for sorting slots
	disk sync.Mutex    // held while a block is read ahead, so that one is read at a time
	drop sync.Mutex    // held while disk space of read blocks is freed
}

// sizes divides the memory.
type sizes struct {
	slot      int // bytes of a slot
	block     int // bytes of a run's block; a longer record gets its own block
	buffer    int // bytes of a writer's buffer, and of an output block
	records   int // maximum records in a writer's buffer, so that their entries fit in a slot
	maxRecord int // bytes of a record with its key
}

const (
	maxSlots  = 8
	outBlocks = 3 // output blocks, used in turn
)

func sizesFor(memory int64) sizes {
	slot := int(memory*8/10/maxSlots) &^ (1<<12 - 1)
	buffer := max(min(slot/16, 512<<10), 1<<10)
	return sizes{slot: slot, block: min(buffer, 256<<10), buffer: buffer, records: slot / 4 / (2 * entrySize), maxRecord: slot/4 - 64}
}

// MaxRecord returns the maximum size of a record with its key, for a given memory.
func MaxRecord(memory int64) int { return sizesFor(memory).maxRecord }

// New returns a sorter. The end of ctx stops all of its work.
func New(ctx context.Context, o *Options) (*Sorter, error) {
	s := &Sorter{opts: *cmp.Or(o, new(Options))}
	s.Memory, s.Threads, s.Temp = s.opts.Memory, s.opts.Threads, s.opts.Temp
	if err := s.Start(ctx, "sorting", 1); err != nil {
		return nil, err
	}
	s.sizes = sizesFor(s.Memory)
	s.cpu = make(chan struct{}, s.Threads)
	return s, nil
}

// Stats returns statistics about the work done so far.
func (s *Sorter) Stats() Stats {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.stats
}

// Close stops all work in progress, waits for it, and removes all temporary data. No loop
// over Sorted may be running.
func (s *Sorter) Close() error {
	return s.Engine.Close(func() error {
		var errs []error
		for _, r := range s.runs {
			errs = append(errs, r.Close())
		}
		for _, m := range s.slots {
			offheap.Release(m.mem)
		}
		s.runs, s.slots, s.sorted, s.free, s.filling, s.buffers = nil, nil, nil, nil, nil, nil
		return errors.Join(errs...)
	})
}
