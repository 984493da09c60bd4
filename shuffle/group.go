package shuffle

import (
	"context"
	"encoding/binary"
	"iter"

	"github.com/go-partd/partd/encode"
)

// Group is a key with its records.
type Group[K, T any] struct {
	Key K
	// Values yields the group's decoded records, not bytes as [Committed.Values] does. Records from one feed keep
	// their input order. Range over Values once, before the next group is requested.
	Values iter.Seq2[T, error]
}

// GroupBy yields each key once, with its records, in no particular order. A group is read
// as you range over it, so it can be larger than memory, and you can stop early. Keys and
// records are newly decoded and belong to the caller. Keys are equal if their default
// encodings are equal.
func GroupBy[T, K any](ctx context.Context, in iter.Seq2[T, error], key func(T) K, o *Options[T]) iter.Seq2[Group[K, T], error] {
	return pipe(in, func() (*Grouper[T, K], error) { return NewGrouper(ctx, key, o) }, (*Grouper[T, K]).Feed, (*Grouper[T, K]).Groups)
}

// Grouper groups the records fed to it.
type Grouper[T, K any] struct{ keyed keyed[T, K] }

// NewGrouper returns a grouper. The caller must close it.
func NewGrouper[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (*Grouper[T, K], error) {
	k, err := newKeyed(ctx, key, o)
	if err != nil {
		return nil, err
	}
	return &Grouper[T, K]{k}, nil
}

// Feed returns a feed, which needs half a MiB of additional memory.
func (g *Grouper[T, K]) Feed() (*Feed[T], error) { return g.keyed.feed() }

// ForEach calls use for each group, in no particular order, from at most n goroutines; 0
// means GOMAXPROCS. Options.Memory further limits the goroutines, for example to 128 with
// 256 MiB, and to 4 with 8 MiB. A group can be read until use returns. Close all feeds
// before calling ForEach.
//
// ForEach returns when all goroutines have ended. After the first error, or when ctx ends, it
// cancels the contexts passed to use and does not call use again. ForEach returns this
// error joined with errors from the other goroutines. A panic in use propagates to ForEach's
// caller.
//
// An additional goroutine reads groups ahead, into up to an eighth of Options.Memory. Groups in
// this memory are processed concurrently. A group that does not fit delays the next groups until
// use has read it.
func (g *Grouper[T, K]) ForEach(ctx context.Context, n int, use func(context.Context, Group[K, T]) error) error {
	return g.keyed.forEach(ctx, n, use)
}

// Stats counts the records of all closed feeds, and the groups yielded so far.
func (g *Grouper[T, K]) Stats() Stats { return g.keyed.stats() }

// Close stops the work and removes all temporary data. No feed and no loop over results may be in
// use.
func (g *Grouper[T, K]) Close() error { return g.keyed.close() }

// Groups yields the groups. Close all feeds before calling it. Call it once.
func (g *Grouper[T, K]) Groups() iter.Seq2[Group[K, T], error] {
	return func(yield func(Group[K, T], error) bool) {
		if err := orZero(g.keyed.spool).startReading(); err != nil {
			yield(Group[K, T]{}, err)
			return
		}
		sc := g.keyed.spool.scan(1)
		defer sc.close()
		proceed := true
		err := g.keyed.eachGroup(sc, func(group Group[K, T]) error {
			proceed = yield(group, nil)
			if !proceed {
				return errGroupPassed
			}
			return nil
		})
		if err != nil && proceed {
			yield(Group[K, T]{}, err)
		}
	}
}

// groupReader reads the blocks of a scanner. Several readers may share a scanner. If a reader's
// batch ends within a group, that reader also gets the batches with the rest of the group.
type groupReader[T any] struct {
	sc    *scanner
	codec encode.ValueCodec[T]
	b     *batch
	i     int // index of the next block of b
	block recordBlock
	group int64  // number of the current group, to detect reads of a previous group
	tally *tally // counts the records read, for Progress
	err   error
}

func (r *groupReader[T]) next() bool {
	for r.err == nil {
		if r.b != nil && r.i < len(r.b.blocks) {
			r.block = r.b.block(r.i)
			r.i++
			return true
		}
		from := r.sc.full
		if r.b != nil {
			if r.b.continuation != nil {
				from = r.b.continuation
			}
			r.sc.empty <- r.b // never blocks: the channel has room for all batches
		}
		var ok bool
		r.b, ok = <-from
		if !ok {
			r.b = nil
			r.err = r.sc.err
			return false
		}
		r.i = 0
	}
	return false
}

var errGroupPassed = errorf("a group's values can be read only until the next group is requested")

// values yields the remaining records of the current key.
func (r *groupReader[T]) values() iter.Seq2[T, error] {
	group := r.group
	return func(yield func(T, error) bool) {
		var zero T
		if group != r.group {
			yield(zero, errGroupPassed)
			return
		}
		for {
			for len(r.block.records) > 0 {
				v, err := r.record()
				if err != nil {
					yield(zero, err)
					return
				}
				if !yield(v, nil) {
					return
				}
				if group != r.group {
					yield(zero, errGroupPassed)
					return
				}
			}
			if r.block.last {
				return
			}
			if !r.next() {
				if r.err != nil {
					yield(zero, r.err)
				}
				return
			}
		}
	}
}

func (r *groupReader[T]) record() (v T, err error) {
	n, l := binary.Uvarint(r.block.records) // the scanner has checked this length
	end := l + int(n)
	v, err = r.codec.Decode(r.block.records[l:end])
	r.block.records = r.block.records[end:]
	if err != nil {
		return v, errorf("decoding a record: %w", err)
	}
	r.tally.count(int(n))
	return v, nil
}
