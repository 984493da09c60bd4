package records

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Input is a file to read.
type Input struct {
	Name string // name for messages
	Open func() (io.ReadCloser, error)
	Size int64 // size of the content in bytes, -1 if unknown

	Encoding string // encoding from which [Decode] has converted the content; "" if it was not converted
}

// Config configures Read.
type Config struct {
	Layout    Layout
	Fields    []Field  // fields to return for each record
	AllFields bool     // return all fields, in order, before Fields, which must be parts; not for JSON lines
	Columns   []string // header that every input must have, or nil
	Block     int      // size of a block in bytes, at least 16
	MaxRecord int      // maximum length of a record in bytes, at least Block
	Workers   int      // number of goroutines that split and handle blocks, at least 1
	SkipBad   bool     // count bad records and continue

	// MaxRecordShare describes MaxRecord in errors; "" means a quarter of --memory.
	MaxRecordShare string

	Selector func() *Selector // returns the selector of a worker; nil selects all records unchanged
}

func (c *Config) workers() int { return max(c.Workers, 1) }

// blocks returns the number of blocks in memory: one being filled, one waiting for a worker, and
// one for each worker.
func (c *Config) blocks() int { return 2 + c.workers() }

// Tally counts the bytes and records read.
type Tally struct {
	ReadBytes     int64
	HeaderBytes   int64 // size of headers and byte order marks
	BlankLines    int64
	BlankBytes    int64
	BadRecords    int64
	BadBytes      int64
	FirstBadErr   error // error of the first skipped bad record
	Records       int64 // valid records
	RecordBytes   int64
	Dropped       int64   // records that the selector dropped
	DroppedBytes  int64   // input bytes that the selector dropped minus bytes that it added
	Mended        Mended  // records that Layout.Ragged changed, even if the selector dropped them
	FirstRecord   []byte  // JSON lines: the first valid record
	Absent        []Field // JSON lines: requested fields that no record has
	AddedNewlines int64   // newlines that were missing at the end of files
}

// Accounted reports whether the counts add up to the number of bytes read.
func (t *Tally) Accounted() bool {
	return t.ReadBytes+t.AddedNewlines == t.HeaderBytes+t.BlankBytes+t.BadBytes+t.RecordBytes+t.DroppedBytes
}

// Add adds the counts of o to t. If t has no FirstBadErr, Add also copies the FirstBadErr of o.
func (t *Tally) Add(o *Tally) {
	t.FirstBadErr = cmp.Or(t.FirstBadErr, o.FirstBadErr)
	t.Mended.Add(o.Mended)
	t.ReadBytes += o.ReadBytes
	t.HeaderBytes += o.HeaderBytes
	t.BlankLines += o.BlankLines
	t.BlankBytes += o.BlankBytes
	t.BadRecords += o.BadRecords
	t.BadBytes += o.BadBytes
	t.Records += o.Records
	t.RecordBytes += o.RecordBytes
	t.Dropped += o.Dropped
	t.DroppedBytes += o.DroppedBytes
	t.AddedNewlines += o.AddedNewlines
}

// Read reads inputs one after another, in blocks of complete records. Workers call handle
// concurrently, each for one block at a time. handle must read records until [Block.Next] returns false,
// and must not retain the block. If the order of records matters, handle must call [Block.WaitForEarlier].
//
// Read returns the first error in input order. When ctx is done, Read waits for calls to handle to
// return, but not for a pending read of a file. Read uses (Workers + 2) × Block bytes of memory, and up to MaxRecord
// × 4/3 more for a record that is longer than a block.
func Read(ctx context.Context, inputs []Input, cfg Config, handle func(*Block) error) (Tally, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	order := &blockOrder{cancel: cancel, pending: map[int64]*result{}}
	order.changed.L = &order.mu
	stopWatching := context.AfterFunc(ctx, func() { order.stop(canceled.Err(ctx)) }) // so that WaitForEarlier returns
	defer stopWatching()
	r := &reader{
		cfg: cfg, order: order, splitter: NewSplitter(cfg.Layout, nil, cfg.Columns),
		emptyBlocks: make(chan []byte, cfg.blocks()), fullBlocks: make(chan *Block, cfg.blocks()),
	}
	for range cfg.blocks() {
		r.emptyBlocks <- make([]byte, 0, cfg.Block)
	}
	go r.run(ctx, inputs)
	var wg sync.WaitGroup
	splitters := make([]*Splitter, cfg.workers())
	for w := range splitters {
		var selector *Selector
		fields := cfg.Fields
		if cfg.Selector != nil {
			selector = cfg.Selector()
			fields = slices.Concat(fields, selector.Fields)
		}
		splitters[w] = NewSplitter(cfg.Layout, fields, cfg.Columns)
		splitters[w].allFields, splitters[w].maxFilled = cfg.AllFields, max(cfg.MaxRecord/4, 4*cfg.Block)
		if selector != nil {
			splitters[w].lateFields = len(cfg.Fields)
		}
		wg.Go(func() { r.work(ctx, w, splitters[w], selector, handle) })
	}
	wg.Wait()
	order.mu.Lock() // the reader may still be running
	err := order.err
	order.mu.Unlock()
	if err != nil {
		return Tally{}, err
	}
	if ctx.Err() != nil {
		return Tally{}, canceled.Err(ctx)
	}
	// The workers have stopped without an error, so the reader has closed fullBlocks and no longer
	// changes r.tally.
	order.tally.Add(&r.tally)
	sawRecord := func(s *Splitter) bool { return s.sawRecord }
	for i, f := range splitters[0].fields {
		seen := func(s *Splitter) bool { return s.seenFields[i] }
		if slices.ContainsFunc(splitters, sawRecord) && !slices.ContainsFunc(splitters, seen) {
			order.tally.Absent = append(order.tally.Absent, f)
		}
	}
	return order.tally, nil
}

// work calls handle for blocks from fullBlocks, until the channel is closed or a block fails.
func (r *reader) work(ctx context.Context, worker int, splitter *Splitter, selector *Selector, handle func(*Block) error) {
	for {
		b, _ := canceled.Receive(ctx, r.fullBlocks) // nil at the end of the input, or if ctx ends
		if b == nil {
			return
		}
		b.selector = selector
		b.begin(worker, splitter)
		res := b.finish(handle(b))
		r.order.addResult(res)
		r.emptyBlocks <- b.buf // never blocks: the channel has room for all blocks
		if res.err != nil {
			return // after a failure, handle must not be called again for this worker
		}
	}
}

// reader reads the inputs in its own goroutine.
type reader struct {
	cfg      Config
	order    *blockOrder
	tally    Tally
	splitter *Splitter // finds the header or, without a header, the number of fields

	emptyBlocks chan []byte // blocks to read into
	fullBlocks  chan *Block // blocks for the workers

	block []byte // the block being filled
	limit int    // maximum length of block
	start int    // index in block of the first record not yet sent

	seq           int64 // index of the next block
	bytesSent     int64 // bytes sent to workers
	inputPosition       // input of the next block
	errLine       int64 // line of run's error, counted from the beginning of the next block; 0 if unknown
}

func (r *reader) run(ctx context.Context, inputs []Input) {
	r.block, r.limit = <-r.emptyBlocks, r.cfg.Block-1
	for i := range inputs {
		if err := r.readInput(ctx, &inputs[i]); err != nil {
			// Report the error in input order, as the result of the next block.
			r.order.addResult(&result{seq: r.seq, inputPosition: r.inputPosition, err: err, errLine: r.errLine})
			return
		}
	}
	close(r.fullBlocks)
}

func (r *reader) readInput(ctx context.Context, in *Input) (err error) {
	f, err := in.Open()
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	r.inputPosition = inputPosition{name: in.Name, encoding: in.Encoding, isFirst: true}
	var size int64
	for headerDone, eof := false, false; !eof; {
		n, err := r.fill(ctx, f)
		size += int64(n)
		if err != nil && err != io.EOF {
			return err
		}
		eof = err == io.EOF
		if n := len(r.block); eof && n > r.start && r.block[n-1] != '\n' {
			r.block = append(r.block, '\n') // fits, because limit is less than the capacity
			r.tally.AddedNewlines++
		}
		if !headerDone {
			headerDone, err = r.begin(eof)
			if err != nil {
				return err
			}
		}
		end := r.start
		if headerDone && eof {
			end = len(r.block) // if the last record is incomplete, the worker returns an error
		} else if headerDone {
			end += r.cfg.Layout.WholeRecords(r.block[r.start:])
		}
		if end == 0 && !eof {
			err = r.grow(ctx)
		} else {
			err = r.sendBlock(ctx, end)
		}
		if err != nil {
			return err
		}
	}
	if in.Size >= 0 && size != in.Size {
		return &Error{File: in.Name, Err: fmt.Errorf(
			"the file changed during reading: it had %d bytes, but %d were read", in.Size, size)}
	}
	return nil
}

func (r *reader) fill(ctx context.Context, f io.Reader) (n int, err error) {
	for len(r.block) < r.limit && err == nil {
		if err := canceled.Err(ctx); err != nil {
			return n, err
		}
		var m int
		m, err = f.Read(r.block[len(r.block):r.limit])
		r.block = r.block[:len(r.block)+m]
		n += m
	}
	r.tally.ReadBytes += int64(n)
	return n, err
}
