package partd

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/ledger"
)

// CopyOptions are options of [Copy].
type CopyOptions struct {
	// Append adds to what the target holds: then only the number of bytes is
	// compared, since values may be longer than those of the source. Without it a
	// target that holds keys is an error.
	Append bool

	// BatchBytes is how many bytes of values, and of keys beside them, one append
	// holds at most, 4 MiB by default. Values are cut into pieces of 1 MiB at most.
	BatchBytes int

	// From and To name the stores in errors.
	From, To string

	// Progress is called as each stage begins, and with the bytes of values read in
	// it so far.
	Progress func(stage CopyStage, bytes int64)
}

// CopyStage is how far a copy is.
type CopyStage int

// The stages of a copy.
const (
	CopyFilling   CopyStage = iota // the source is read, and the target written
	CopyFlushing                   // the target writes what it holds back
	CopyComparing                  // the target is read and compared
)

// CopyResult is the account of what was read of the source.
type CopyResult struct {
	Keys     int64
	Bytes    int64  // of their values
	Checksum string // of keys and values, in any order: the sum of 128-bit hashes in hexadecimal
	Changed  bool   // something was written to the target, or may have been
}

// ErrCopyDiffers is wrapped by the error of [Copy] for a target that does not hold
// what was written to it.
var ErrCopyDiffers = errors.New("either another program writes to it, or it lost something")

// Copy appends the value of every key of from to the same key of to, in bounded
// memory, and flushes to. Then it reads the target and compares its keys, bytes and
// a checksum with what it read of the source. An error leaves what was copied until
// then in the target, and the result says whether that may be anything.
func Copy(ctx context.Context, to, from Partd, opts *CopyOptions) (CopyResult, error) {
	c := copier{CopyOptions: *cmp.Or(opts, new(CopyOptions)), to: to, from: from, target: "the target"}
	if c.To != "" {
		c.target = "the store " + c.To
	}
	c.From, c.To = cmp.Or(c.From, "the source"), cmp.Or(c.To, "the target")
	err := c.run(ctx)
	return CopyResult{c.read.Keys, c.read.Bytes, c.read.Checksum(), c.changed}, err
}

// copier is one run of Copy.
type copier struct {
	CopyOptions
	to, from Partd
	target   string // in errors
	read     ledger.Stores
	changed  bool

	// The entries of the next append: pieces of one key are one entry, so that
	// layers that compress get large ones.
	entries []Entry
	data    []byte
	start   int // of the last entry in data
	noted   int // what the entries take beside their values
}

func (c *copier) run(ctx context.Context) error {
	var before Stats
	var err error
	if c.Append {
		before, err = Stat(ctx, c.to)
	} else {
		err = c.checkEmpty(ctx)
	}
	if err != nil {
		return err
	}
	c.tell(CopyFilling, 0)
	if err := c.fill(ctx); err != nil {
		return err
	}
	c.tell(CopyFlushing, 0)
	if err := Flush(ctx, c.to); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	c.tell(CopyComparing, 0)
	if !c.Append {
		return c.compare(ctx)
	}
	after, err := Stat(ctx, c.to)
	if more := after.Bytes - before.Bytes; err == nil && more != c.read.Bytes {
		return fmt.Errorf("%d bytes were copied, but %s holds %d bytes more than before: %w", c.read.Bytes, c.target, more, ErrCopyDiffers)
	}
	return err
}

func (c *copier) checkEmpty(ctx context.Context) error {
	for _, err := range Keys(ctx, c.to) {
		if err == nil {
			err = fmt.Errorf("%s already holds keys", c.target)
		}
		return err
	}
	return nil
}

func (c *copier) tell(stage CopyStage, bytes int64) {
	if c.Progress != nil {
		c.Progress(stage, bytes)
	}
}

// fill reads the source into the target.
func (c *copier) fill(ctx context.Context) error {
	c.data = make([]byte, 0, min(cmp.Or(max(c.BatchBytes, 0), defaultBatch), BatchBytes(c.to)))
	for chunk, err := range Scan(ctx, c.from) {
		if err != nil {
			return fmt.Errorf("reading %s: %w", c.From, err)
		}
		c.read.Add(chunk.Key, chunk.Data, chunk.Offset == 0, chunk.Last)
		c.tell(CopyFilling, c.read.Bytes)
		if len(chunk.Data) == 0 && chunk.Last && chunk.Offset == 0 {
			c.changed = true
			if err := SetOnce(ctx, c.to, chunk.Key, nil); err != nil {
				return err
			}
		}
		for data := chunk.Data; len(data) > 0; {
			if data = c.take(chunk.Key, data); len(data) > 0 {
				if err := c.write(ctx); err != nil {
					return err
				}
			}
		}
	}
	return c.write(ctx)
}

// take copies as much of a chunk as there is room for, and returns the rest. What
// is noted of the values may come to as much as they.
func (c *copier) take(key string, data []byte) (rest []byte) {
	const (
		maxEntries = 4096
		maxPiece   = 1 << 20
	)
	last := len(c.entries) - 1
	if last < 0 || c.entries[last].Key != key || len(c.data)-c.start >= maxPiece {
		cost := len(key) + entryCost
		if last >= 0 && (len(c.entries) == maxEntries || len(c.data)+c.noted+cost >= cap(c.data)) {
			return data
		}
		c.noted += cost
		c.entries = append(c.entries, Entry{Key: key})
		last, c.start = last+1, len(c.data)
	}
	n := min(len(data), cap(c.data)-len(c.data), c.start+maxPiece-len(c.data))
	c.data = append(c.data, data[:n]...)
	c.entries[last].Value = c.data[c.start:]
	return data[n:]
}

func (c *copier) write(ctx context.Context) error {
	if len(c.entries) == 0 {
		return nil
	}
	c.changed = true
	err := c.to.Append(ctx, c.entries...)
	clear(c.entries)
	c.entries, c.data, c.noted = c.entries[:0], c.data[:0], 0
	return err
}

// compare reads the target and compares it with what was read of the source.
func (c *copier) compare(ctx context.Context) error {
	var found ledger.Stores
	for chunk, err := range Scan(ctx, c.to) {
		if err != nil {
			return fmt.Errorf("reading %s back: %w", c.To, err)
		}
		found.Add(chunk.Key, chunk.Data, chunk.Offset == 0, chunk.Last)
		c.tell(CopyComparing, found.Bytes)
	}
	if diff := c.read.Diff(&found); diff != "" {
		return fmt.Errorf("%s holds %s: %w", c.target, diff, ErrCopyDiffers)
	}
	return nil
}
