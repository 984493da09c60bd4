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
	// Append allows a target that already has keys. Then Copy compares only the number
	// of bytes, because values may be longer than in the source.
	Append bool

	// BatchBytes is the maximum size of the keys and values of one append, by default
	// 4 MiB. Copy cuts values into pieces of at most 1 MiB.
	BatchBytes int

	// From and To are the names of the stores in errors.
	From, To string

	// Progress is called when a stage begins, and later with the bytes of values that
	// the stage has read.
	Progress func(stage CopyStage, bytes int64)
}

// CopyStage is a stage of a copy.
type CopyStage int

// The stages of a copy.
const (
	CopyFilling   CopyStage = iota // reading the source and writing the target
	CopyFlushing                   // flushing the target
	CopyComparing                  // reading the target and comparing it with the source
)

// CopyResult describes the data read from the source.
type CopyResult struct {
	Keys     int64
	Bytes    int64  // of the values
	Checksum string // independent of the order of keys: the sum of 128-bit hashes of keys and values, in hexadecimal
	Changed  bool   // reports whether the target was, or may have been, written to
}

// ErrCopyDiffers is wrapped by the error of [Copy] if the target does not have what was
// written to it.
var ErrCopyDiffers = errors.New("either another program writes to it, or it lost data")

// Copy appends the value of every key of from to the same key of to, in bounded memory,
// and flushes to. Then it reads the target and compares its keys, bytes and checksum with
// those read from the source. After an error the target keeps what was copied, and
// CopyResult.Changed reports whether that may be anything.
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
	target   string // the target's name in errors
	read     ledger.StoreCount
	changed  bool

	// Entries of the next append. All pieces of one key form one entry, so that layers
	// can compress large values.
	entries  []Entry
	data     []byte
	start    int // offset of the last entry in data
	overhead int // memory for the entries besides their values
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
	c.report(CopyFilling, 0)
	if err := c.fill(ctx); err != nil {
		return err
	}
	c.report(CopyFlushing, 0)
	if err := Flush(ctx, c.to); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	c.report(CopyComparing, 0)
	if !c.Append {
		return c.compare(ctx)
	}
	after, err := Stat(ctx, c.to)
	if more := after.Bytes - before.Bytes; err == nil && more != c.read.Bytes {
		return fmt.Errorf("%d bytes were copied, but %s has grown by %d bytes: %w", c.read.Bytes, c.target, more, ErrCopyDiffers)
	}
	return err
}

func (c *copier) checkEmpty(ctx context.Context) error {
	for _, err := range Keys(ctx, c.to) {
		if err == nil {
			err = fmt.Errorf("%s already has keys", c.target)
		}
		return err
	}
	return nil
}

func (c *copier) report(stage CopyStage, bytes int64) {
	if c.Progress != nil {
		c.Progress(stage, bytes)
	}
}

// fill copies the source to the target.
func (c *copier) fill(ctx context.Context) error {
	c.data = make([]byte, 0, min(cmp.Or(max(c.BatchBytes, 0), defaultBatch), BatchBytes(c.to)))
	for chunk, err := range Scan(ctx, c.from) {
		if err != nil {
			return fmt.Errorf("reading %s: %w", c.From, err)
		}
		c.read.Add(chunk.Key, chunk.Data, chunk.Offset == 0, chunk.Last)
		c.report(CopyFilling, c.read.Bytes)
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

// take adds as much of a chunk to the batch as fits, and returns the rest. Large overhead
// of the entries also fills the batch.
func (c *copier) take(key string, data []byte) (rest []byte) {
	const (
		maxEntries = 4096
		maxPiece   = 1 << 20
	)
	last := len(c.entries) - 1
	if last < 0 || c.entries[last].Key != key || len(c.data)-c.start >= maxPiece {
		cost := len(key) + entryCost
		if last >= 0 && (len(c.entries) == maxEntries || len(c.data)+c.overhead+cost >= cap(c.data)) {
			return data
		}
		c.overhead += cost
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
	c.entries, c.data, c.overhead = c.entries[:0], c.data[:0], 0
	return err
}

// compare reads the target and compares it with the data read from the source.
func (c *copier) compare(ctx context.Context) error {
	var copied ledger.StoreCount
	for chunk, err := range Scan(ctx, c.to) {
		if err != nil {
			return fmt.Errorf("reading %s back: %w", c.To, err)
		}
		copied.Add(chunk.Key, chunk.Data, chunk.Offset == 0, chunk.Last)
		c.report(CopyComparing, copied.Bytes)
	}
	if diff := c.read.Diff(&copied); diff != "" {
		return fmt.Errorf("%s holds %s: %w", c.target, diff, ErrCopyDiffers)
	}
	return nil
}
