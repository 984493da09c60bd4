// Package extsort sorts records that need not fit in memory: stably, by keys
// whose order is that of bytes.Compare. The Append functions of this package
// encode numbers, texts and their reverse into such keys.
//
// Records are copied into slots of memory. A full slot is sorted in the
// background, and stays in memory until the memory is needed: then it is
// written to a temporary file as a run. At the end the slots that are still
// there and the runs are merged. Everything is counted on both sides: a sum
// over all records that went in is compared with that over those that come out.
//
// Use: several goroutines call [Sorter.Writer] or [Sorter.Batch], add records and
// close their writers; then one ranges over [Sorter.Sorted], once; then Close.
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

// MinMemory is how much memory a sorter takes at least, in bytes.
const MinMemory = spill.MinMemory

// Options of a [Sorter]. The zero value, and nil, are the defaults.
type Options struct {
	// Memory bounds all that the sorter takes, in bytes: 0 means
	// [spill.DefaultMemory], at least [MinMemory]. A record with its key must be
	// smaller than a fortieth of it.
	Memory int64
	// Threads is how many slots are sorted at once, 0 means GOMAXPROCS.
	Threads int
	// Temp is where runs go. nil: directories of its own in os.TempDir.
	Temp *tempdir.Set
	// KeepKeys hands keys out beside records.
	KeepKeys bool
}

// Stats tell what a sorter did.
type Stats struct {
	Records int64         // taken in
	Bytes   int64         // of their records, without keys
	Sum     ledger.Sum128 // sum of xxh3-128 of each record, with KeepKeys of (uvarint length of the key, key, record)
	Runs    int64         // written to files, those of further passes included
	Passes  int           // merges that each record went through at most, the last included
	Written int64         // bytes of all runs
}

// ErrTooLarge is wrapped by the error for a record that the memory is too small
// for, and wraps [partd.ErrTooLarge].
var ErrTooLarge = fmt.Errorf("the record is %w for the memory to sort in", partd.ErrTooLarge)

// Sorter sorts records. Its writers may be used at the same time.
type Sorter struct {
	spill.Engine
	opts  Options
	sizes sizes

	// Mu guards what follows.
	turn    uint64 // the batch whose turn it is
	seq     int64  // of the next slot
	filling *slot
	free    []*slot
	slots   []*slot // all that were made
	sorted  []*slot // in memory, by seq
	runs    []*run  // in files, by seq
	sorting int     // slots that wait for being sorted, or are
	spills  int     // slots being written
	merging bool    // runs, by mergeEarly
	stats   Stats
	buffers [][]byte

	cpu  chan struct{} // as many as may sort at once
	disk sync.Mutex    // of who reads ahead, one at a time
	drop sync.Mutex    // of who gives back what was read
}

// sizes is how the memory is divided.
type sizes struct {
	slot      int // bytes of a slot
	block     int // bytes of a run's block, a longer record has one of its own
	buffer    int // bytes of a writer's buffer, and of a block that is handed out
	records   int // a writer's buffer holds at most, as many as have room for their entries
	maxRecord int // bytes of a record with its key
}

const (
	maxSlots  = 8
	outBlocks = 3 // that are handed out, in turn
)

func sizesFor(memory int64) sizes {
	slot := int(memory*8/10/maxSlots) &^ (1<<12 - 1)
	buffer := max(min(slot/16, 512<<10), 1<<10)
	return sizes{slot: slot, block: min(buffer, 256<<10), buffer: buffer, records: slot / 4 / (2 * entrySize), maxRecord: slot/4 - 64}
}

// MaxRecord returns how many bytes a record may have, with its key, in that memory.
func MaxRecord(memory int64) int { return sizesFor(memory).maxRecord }

// New returns a sorter. ctx ends all that it does.
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

// Stats returns what was done so far.
func (s *Sorter) Stats() Stats {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.stats
}

// Close ends everything that is under way, waits for it, and removes all
// temporary data. A loop over Sorted must have ended.
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
