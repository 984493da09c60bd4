package shuffle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
)

// Commit is the record that an attempt wrote when it committed.
type Commit struct {
	Task, Attempt string
	Batches       uint64
	Share         // everything that it appended
}

// Share accounts for pieces: their number, their bytes, and the sum modulo 2^128 of
// the XXH3-128 hashes of (length of the key as a uvarint, key, piece), high half
// first. The shares of readers that read different keys add up to the share of the
// whole.
type Share struct {
	Records, Bytes int64
	Sum            [2]uint64
}

func shareOf(c ledger.Count) Share {
	return Share{Records: c.Records, Bytes: c.Bytes, Sum: [2]uint64{c.Sum.Hi, c.Sum.Lo}}
}

func (s Share) count() ledger.Count {
	return ledger.Count{Records: s.Records, Bytes: s.Bytes, Sum: ledger.Sum128{Hi: s.Sum[0], Lo: s.Sum[1]}}
}

// Add adds the share of another reader.
func (s *Share) Add(o Share) {
	c := s.count()
	c.Add(o.count())
	*s = shareOf(c)
}

// Committed reads the data that counts in a store: for each task, whatever the
// first attempt to commit has appended. It is safe for concurrent use.
type Committed struct {
	store   partd.Partd
	winners []Commit
	index   map[string]int // of winners, by task

	idle sync.Pool // of *reading, for Values

	without struct{ winners, batches, totals bool } // safeguards that a test takes away
}

// ReadCommitted returns the data that is committed now. It does not include
// later commits.
func ReadCommitted(ctx context.Context, store partd.Partd) (*Committed, error) {
	c, err := readControl(ctx, store)
	if err != nil {
		return nil, err
	}
	return c.committed(store), nil
}

// Commits returns the commit of each task, in commit order.
func (c *Committed) Commits() []Commit { return append([]Commit(nil), c.winners...) }

// Total returns the sum of all commits.
func (c *Committed) Total() (total Share) {
	for i := range c.winners {
		total.Add(c.winners[i].Share)
	}
	return total
}

// Scan yields all pieces that count, key by key. Within a key, the pieces of one
// task come in the order in which they were appended. A value is valid until the
// next iteration. After the last piece, Scan compares what it has read with the
// commit of each task: a difference is an error that wraps [ErrNotVerified]. A
// caller that stops earlier has verified nothing.
func (c *Committed) Scan(ctx context.Context) iter.Seq2[partd.Entry, error] {
	return c.scan(ctx, 0, 1, nil)
}

// ScanPart is [Committed.Scan] for one part of the keys, divided as by
// [partd.ScanPart], for readers that read a part each. No single reader can tell
// whether something is missing, since commits know nothing of parts. At the end
// each adds what it has read to its share; whoever has the shares of all parts
// calls [Committed.Verify].
func (c *Committed) ScanPart(ctx context.Context, part, parts int, share *Share) iter.Seq2[partd.Entry, error] {
	if share == nil {
		return func(yield func(partd.Entry, error) bool) {
			yield(partd.Entry{}, errors.New("reading a part without a share to add it to: nobody could verify it"))
		}
	}
	return c.scan(ctx, part, parts, share)
}

// Values yields the pieces of one key that count, as [Committed.ScanPart] does. A
// caller that reads every key exactly once in this way can verify the sum of the
// shares.
func (c *Committed) Values(ctx context.Context, key string, share *Share) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r, _ := c.idle.Get().(*reading)
		if r == nil {
			r = c.newReading(1)
		}
		defer c.idle.Put(r)
		r.keys++
		r.found[0] = ledger.Count{}
		err := readFrames(ctx, c.store, key, func(kind byte, rest []byte) error {
			return r.frame(key, kind, rest, func(piece []byte) bool { return yield(piece, nil) })
		})
		switch {
		case errors.Is(err, errStopped):
		case err != nil:
			yield(nil, err)
		case share != nil:
			share.Add(r.total())
		}
	}
}

// Verify compares the total of what all readers have read with what was committed.
// The error wraps [ErrNotVerified]. A part that nobody has read, or that two have
// read, is such an error.
func (c *Committed) Verify(shares ...Share) error {
	var found Share
	for _, s := range shares {
		found.Add(s)
	}
	if err := c.Total().count().Compare(found.count()); err != nil && !c.without.totals {
		return fmt.Errorf("the pieces of %d tasks: %w", len(c.winners), err)
	}
	return nil
}

var errStopped = errors.New("no more is wanted")

func (c *Committed) scan(ctx context.Context, part, parts int, share *Share) iter.Seq2[partd.Entry, error] {
	return func(yield func(partd.Entry, error) bool) {
		r := c.newReading(len(c.winners))
		for chunk, err := range partd.ScanPart(ctx, c.store, part, parts) {
			if err == nil {
				err = r.chunk(chunk, yield)
			}
			if errors.Is(err, errStopped) {
				return
			}
			if err != nil {
				yield(partd.Entry{}, err)
				return
			}
		}
		if share != nil {
			share.Add(r.total())
		} else if err := r.verify(); err != nil {
			yield(partd.Entry{}, err)
		}
	}
}

// reading is one walk over keys.
type reading struct {
	*Committed
	frames frames
	hashed []byte // of the piece at hand
	keys   uint64 // begun
	last   []place
	found  []ledger.Count // of each task, or of all of them
}

// place is the last piece of a task that was found under a key. Each writer sends a
// batch only when the one before has arrived for certain, so what is not behind it
// was there before.
type place struct{ key, batch, index uint64 }

func (c *Committed) newReading(counts int) *reading {
	return &reading{Committed: c, keys: 1, last: make([]place, len(c.winners)), found: make([]ledger.Count, counts)}
}

// chunk takes a chunk of a key's value.
func (r *reading) chunk(c partd.Chunk, yield func(partd.Entry, error) bool) error {
	if c.Offset == 0 {
		r.keys++
		r.frames = frames{carry: r.frames.carry[:0]}
	}
	return r.frames.feed(c.Key, c.Data, c.Last, func(kind byte, rest []byte) error {
		return r.frame(c.Key, kind, rest, func(piece []byte) bool { return yield(partd.Entry{Key: c.Key, Value: piece}, nil) })
	})
}

// frame takes a frame, and calls use with its piece if that counts.
func (r *reading) frame(key string, kind byte, rest []byte, use func([]byte) bool) error {
	if kind != framePiece {
		if key == ControlKey && kind >= frameCommit && kind <= frameClosed {
			return nil
		}
		return errFrame
	}
	in := cutter{rest: rest}
	name, attempt := in.text(), in.text()
	at := place{r.keys, in.number(), in.number()}
	if in.err != nil {
		return in.err
	}
	task, known := r.index[string(name)]
	if !known {
		return nil // never committed
	}
	w := &r.winners[task]
	if (string(attempt) != w.Attempt || at.batch > w.Batches) && !r.without.winners {
		return nil
	}
	if old := r.last[task]; old.key == at.key && !at.after(old) && !r.without.batches {
		return nil
	}
	r.last[task] = at
	r.hashed = appendHashed(r.hashed[:0], key, in.rest)
	countPiece(&r.found[min(task, len(r.found)-1)], r.hashed, len(in.rest))
	if !use(in.rest) {
		return errStopped
	}
	return nil
}

func (p place) after(o place) bool {
	return p.batch > o.batch || p.batch == o.batch && p.index > o.index
}

func (r *reading) total() Share {
	var total ledger.Count
	for _, c := range r.found {
		total.Add(c)
	}
	return shareOf(total)
}

// verify compares what was found with what each task committed.
func (r *reading) verify() error {
	for i, w := range r.winners {
		if err := w.count().Compare(r.found[i]); err != nil && !r.without.totals {
			return fmt.Errorf("%s, which committed: %w", attemptText(w.Task, w.Attempt), err)
		}
	}
	return nil
}

func readFrames(ctx context.Context, store partd.Partd, key string, use func(kind byte, rest []byte) error) (err error) {
	in, err := partd.Open(ctx, store, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	var f frames
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		end := err == io.EOF
		if err != nil && !end {
			return err
		}
		if err := f.feed(key, buf[:n], end, use); err != nil || end {
			return err
		}
	}
}
