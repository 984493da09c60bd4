package partd

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/base/ledger"
)

// CopyOptions are the options for [Copy].
type CopyOptions struct {
	// Append allows a target that already has keys. Then Copy verifies only the number
	// of added bytes.
	Append bool

	// BatchBytes is the maximum size of the keys and values of one append, by default
	// 4 MiB. Copy cuts values into pieces of at most 1 MiB.
	BatchBytes int

	From, To string // names of the stores in errors

	// Progress is called when a stage begins, and then with the number of value bytes
	// that the stage has read.
	Progress func(stage CopyStage, bytes int64)
}

// CopyStage is a stage of a copy.
type CopyStage int

const (
	CopyFilling   CopyStage = iota // reading the source and writing the target
	CopyFlushing                   // flushing the target
	CopyComparing                  // reading the target and comparing it with the source
)

// CopyResult describes the data read from the source.
type CopyResult struct {
	Keys    int64
	Bytes   int64 // total length of the values
	Sum     Sum   // the sum of one hash for each key: of the key's length as a uvarint, the key and the whole value
	Changed bool  // the target was, or may have been, written to
}

// ErrCopyDiffers is wrapped by the error of [Copy] if the target does not contain the data that
// Copy wrote. The wrapping error names the difference and the target, which this text calls "it".
var ErrCopyDiffers = errors.New("either another program writes to it, or it lost data")

// Copy appends each value in the source store to the same key in the target store, in bounded
// memory, and flushes the target. Then it reads the target and checks that both stores have equal
// keys, bytes and checksums. After an error, the target keeps the data copied so far, and
// CopyResult.Changed reports whether any data may have been copied.
func Copy(ctx context.Context, to, from Partd, opts *CopyOptions) (CopyResult, error) {
	c := copier{CopyOptions: *cmp.Or(opts, new(CopyOptions)), to: to, from: from, target: "the target"}
	if c.To != "" {
		c.target = "the store " + c.To
	}
	c.From, c.To = cmp.Or(c.From, "the source"), cmp.Or(c.To, "the target")
	err := c.run(ctx)
	return CopyResult{c.read.Keys, c.read.Bytes, Sum(c.read.Sum()), c.changed}, err
}

type copier struct {
	CopyOptions
	to, from Partd
	target   string // the target's name in errors
	read     ledger.StoreCount
	changed  bool

	// Entries of the next append. Adjacent pieces of one key form one entry, because
	// large values compress better.
	entries  []Entry
	data     []byte
	start    int // offset of the last entry in data
	overhead int // memory for the entries besides their values
}

func (c *copier) run(ctx context.Context) error {
	var oldStats Stats
	var err error
	if c.Append {
		oldStats, err = Stat(ctx, c.to)
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
	newStats, err := Stat(ctx, c.to)
	if growth := newStats.Bytes - oldStats.Bytes; err == nil && growth != c.read.Bytes {
		return fmt.Errorf("%d bytes were copied, but %s has grown by %d bytes: %w", c.read.Bytes, c.target, growth, ErrCopyDiffers)
	}
	return err
}

func (c *copier) checkEmpty(ctx context.Context) error {
	for _, err := range Keys(ctx, c.to) {
		if err != nil {
			return err
		}
		return fmt.Errorf("%s already has keys", c.target)
	}
	return nil
}

func (c *copier) report(stage CopyStage, bytes int64) {
	if c.Progress != nil {
		c.Progress(stage, bytes)
	}
}

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
			data = c.addToBatch(chunk.Key, data)
			if len(data) > 0 {
				if err := c.write(ctx); err != nil {
					return err
				}
			}
		}
	}
	return c.write(ctx)
}

// addToBatch adds as much of data as fits to the batch and returns the rest.
func (c *copier) addToBatch(key string, data []byte) (rest []byte) {
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
