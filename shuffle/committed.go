package shuffle

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
)

// Commit describes a committed attempt.
type Commit struct {
	Task, Attempt string
	Batches       uint64
	Checksum      // checksum of all pieces that the attempt appended
}

// Checksum is an order-independent checksum of a set of pieces. Sum adds up one hash for each piece.
// The hash covers the key's length as a uvarint, the key and the piece. Checksums of disjoint sets of keys add up to the checksum of all their keys.
type Checksum struct {
	Records, Bytes int64
	Sum            partd.Sum
}

func checksumOf(c ledger.Count) Checksum { return Checksum{c.Records, c.Bytes, partd.Sum(c.Sum)} }

func (s Checksum) count() ledger.Count {
	return ledger.Count{Records: s.Records, Bytes: s.Bytes, Sum: ledger.Sum128(s.Sum)}
}

// Add adds the checksum of other pieces.
func (s *Checksum) Add(o Checksum) {
	s.Records += o.Records
	s.Bytes += o.Bytes
	s.Sum.Add(o.Sum)
}

// Committed reads the committed data of a store: for each task, the pieces of the attempt that
// committed first. A Committed is safe for concurrent use.
type Committed struct {
	store   partd.Partd
	winners []Commit       // the first commit of each task
	index   map[string]int // task -> index in winners

	idle sync.Pool // reusable *scanPass values
}

// ReadCommitted returns the data committed so far.
func ReadCommitted(ctx context.Context, store partd.Partd) (*Committed, error) {
	c := &Committed{store: store, index: map[string]int{}}
	if err := readFrames(ctx, store, controlKey, c.addControl); err != nil {
		return nil, err
	}
	if len(c.winners) == 0 {
		// Ask for the first key: in some stores, an expired namespace reads as an empty one, and only listing its
		// keys returns the error.
		for _, err := range partd.Keys(ctx, store) {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			break
		}
	}
	return c, nil
}

// Commits returns the commit of each task, in commit order.
func (c *Committed) Commits() []Commit { return append([]Commit(nil), c.winners...) }

// Scan yields all committed pieces, key by key. Within a key, the pieces of one task keep their
// order. A value is valid until the next iteration. After the last piece, Scan compares the pieces
// with each task's commit and yields an error that wraps [ErrNotVerified] if the pieces do not
// match. If the caller stops earlier, nothing is verified.
func (c *Committed) Scan(ctx context.Context) iter.Seq2[partd.Entry, error] {
	return c.scan(ctx, 0, 1, nil)
}

// ScanPart is like [Committed.Scan] for one part of the keys (see [partd.ScanPart]), so that
// several readers can divide the work. ScanPart does not verify the pieces, because a commit
// has one checksum for all parts. Instead, it adds the checksum of its pieces to sum at the
// end. Pass the sums of all parts to [Committed.Verify].
func (c *Committed) ScanPart(ctx context.Context, part, parts int, sum *Checksum) iter.Seq2[partd.Entry, error] {
	if sum == nil {
		return func(yield func(partd.Entry, error) bool) {
			yield(partd.Entry{}, argumentErrorf("reading a part without a checksum: pass a *Checksum, so that the parts can be verified"))
		}
	}
	return c.scan(ctx, part, parts, sum)
}

// Values yields the committed pieces of one key and adds their checksum to sum as
// [Committed.ScanPart] does. A caller that reads every key exactly once can verify the sum.
// [partd.Values] instead yields a reader for each key of a scan.
func (c *Committed) Values(ctx context.Context, key string, sum *Checksum) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		pass, _ := c.idle.Get().(*scanPass)
		if pass == nil {
			pass = c.newScanPass(1)
		}
		defer c.idle.Put(pass)
		pass.keys++
		pass.counts[0] = ledger.Count{}
		err := readFrames(ctx, c.store, key, func(kind byte, rest []byte) error {
			return pass.addFrame(key, kind, rest, func(piece []byte) bool { return yield(piece, nil) })
		})
		switch {
		case errors.Is(err, errStopped):
		case err != nil:
			yield(nil, err)
		case sum != nil:
			sum.Add(pass.total())
		}
	}
}

// Verify compares the sum of all readers' checksums with the commits. If a part was not
// read, or was read twice, the error wraps [ErrNotVerified].
func (c *Committed) Verify(sums ...Checksum) error {
	var want, got ledger.Count
	for i := range c.winners {
		want.Add(c.winners[i].count())
	}
	for _, s := range sums {
		got.Add(s.count())
	}
	if err := want.Compare(got); err != nil {
		return errorf("verifying the pieces of %d tasks: %w", len(c.winners), err)
	}
	return nil
}

var errStopped = errors.New("the caller stopped reading")

func (c *Committed) scan(ctx context.Context, part, parts int, sum *Checksum) iter.Seq2[partd.Entry, error] {
	return func(yield func(partd.Entry, error) bool) {
		pass := c.newScanPass(len(c.winners))
		for chunk, err := range partd.ScanPart(ctx, c.store, part, parts) {
			if err == nil {
				err = pass.addChunk(chunk, yield)
			}
			if errors.Is(err, errStopped) {
				return
			}
			if err != nil {
				yield(partd.Entry{}, err)
				return
			}
		}
		if sum != nil {
			sum.Add(pass.total())
		} else if err := pass.verify(); err != nil {
			yield(partd.Entry{}, err)
		}
	}
}

// scanPass reads the pieces of one key after another and counts them.
type scanPass struct {
	*Committed
	frames        frames
	hashed        []byte          // the bytes to hash for the current piece: the result of appendHashed
	keys          uint64          // sequence number of the current key
	lastPositions []piecePosition // position of each task's last piece
	counts        []ledger.Count  // a count for each task, or one count for all tasks
}

// piecePosition is the position of a piece among the pieces that a task appended to a key. The
// field key is the value of scanPass.keys. A writer sends a batch only after the previous batch has
// arrived. So a piece is a duplicate unless its position comes after the previous piece's position.
type piecePosition struct{ key, batch, index uint64 }

func (c *Committed) newScanPass(counts int) *scanPass {
	return &scanPass{Committed: c, keys: 1, lastPositions: make([]piecePosition, len(c.winners)), counts: make([]ledger.Count, counts)}
}

func (pass *scanPass) addChunk(c partd.Chunk, yield func(partd.Entry, error) bool) error {
	if c.Offset == 0 {
		pass.keys++
		pass.frames.reset()
	}
	return pass.frames.feed(c.Key, c.Data, c.Last, func(kind byte, rest []byte) error {
		return pass.addFrame(c.Key, kind, rest, func(piece []byte) bool { return yield(partd.Entry{Key: c.Key, Value: piece}, nil) })
	})
}

// addFrame processes a frame and calls use with its piece if the piece is committed.
func (pass *scanPass) addFrame(key string, kind byte, rest []byte, use func([]byte) bool) error {
	if kind != framePiece {
		if key == controlKey && kind == frameCommit {
			return nil
		}
		return errFrame
	}
	fields := fieldReader{unread: rest}
	name, attempt := fields.readText(), fields.readText()
	pos := piecePosition{pass.keys, fields.readNumber(), fields.readNumber()}
	if fields.err != nil {
		return fields.err
	}
	task, ok := pass.index[string(name)]
	if !ok {
		return nil // the task has not committed
	}
	w := &pass.winners[task]
	if string(attempt) != w.Attempt || pos.batch > w.Batches {
		return nil
	}
	if old := pass.lastPositions[task]; old.key == pos.key && !pos.after(old) {
		return nil
	}
	pass.lastPositions[task] = pos
	pass.hashed = appendHashed(pass.hashed[:0], key, fields.unread)
	countPiece(&pass.counts[min(task, len(pass.counts)-1)], pass.hashed, len(fields.unread))
	if !use(fields.unread) {
		return errStopped
	}
	return nil
}

func (p piecePosition) after(o piecePosition) bool {
	return p.batch > o.batch || p.batch == o.batch && p.index > o.index
}

func (pass *scanPass) total() Checksum {
	var total ledger.Count
	for _, c := range pass.counts {
		total.Add(c)
	}
	return checksumOf(total)
}

// verify compares the pieces read with the commit of each task.
func (pass *scanPass) verify() error {
	for i, w := range pass.winners {
		if err := w.count().Compare(pass.counts[i]); err != nil {
			return errorf("verifying the pieces of %s: %w", attemptText(w.Task, w.Attempt), err)
		}
	}
	return nil
}

// readFrames calls use for each frame in the value of a key.
func readFrames(ctx context.Context, store partd.Partd, key string, use func(kind byte, rest []byte) error) error {
	var f frames
	return readValue(ctx, store, key, func(data []byte, last bool) error { return f.feed(key, data, last, use) })
}
