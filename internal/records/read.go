package records

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/canceled"
)

// Input is a file to read.
type Input struct {
	Name string // for messages
	Open func() (io.ReadCloser, error)
	Size int64 // content in bytes, -1 if unknown
}

// Config configures Read.
type Config struct {
	Layout    Layout
	Fields    []Field  // the fields to find in each record
	AllFields bool     // for CSV, TSV and text: find all fields, in order, instead of Fields
	Columns   []string // the header that every input must have, or nil
	Block     int      // bytes of a block, at least 16
	MaxRecord int      // maximum bytes of a record, at least Block
	Workers   int      // number of goroutines that find fields and call use, at least one
	SkipBad   bool     // skip and count bad records, instead of failing
}

func (c *Config) workers() int { return max(c.Workers, 1) }

// blocks returns the number of blocks: one to read into, one waiting, and one for each worker.
func (c *Config) blocks() int { return 2 + c.workers() }

// Tally counts the bytes and records read.
type Tally struct {
	ReadBytes     int64 // all bytes read
	HeaderBytes   int64 // headers and byte order marks
	BlankLines    int64
	BlankBytes    int64
	BadRecords    int64
	BadBytes      int64
	FirstBad      error // the error of the first skipped bad record
	Records       int64 // records passed to use
	RecordBytes   int64
	First         []byte  // JSON lines: the first record
	Absent        []Field // JSON lines: requested fields that no record had
	AddedNewlines int64   // newlines added at the ends of files
}

// Accounted reports whether every byte read is in one of the counts.
func (t *Tally) Accounted() bool {
	return t.ReadBytes+t.AddedNewlines == t.HeaderBytes+t.BlankBytes+t.BadBytes+t.RecordBytes
}

// Add adds another tally. It takes the first bad record of o if t has none.
func (t *Tally) Add(o *Tally) {
	t.FirstBad = cmp.Or(t.FirstBad, o.FirstBad)
	t.ReadBytes += o.ReadBytes
	t.HeaderBytes += o.HeaderBytes
	t.BlankLines += o.BlankLines
	t.BlankBytes += o.BlankBytes
	t.BadRecords += o.BadRecords
	t.BadBytes += o.BadBytes
	t.Records += o.Records
	t.RecordBytes += o.RecordBytes
	t.AddedNewlines += o.AddedNewlines
}

// Read reads inputs one after another, in blocks of whole records. Each worker finds the records
// and fields of a block and calls use, which must read all records with [Block.Next]. The content
// of a block is valid until use returns. If the order of records matters, use calls [Block.Turn].
// After an error in a block, its worker gets no other one.
//
// Another goroutine reads up to two blocks ahead. The memory is (Workers + 2) × Block bytes; a
// record longer than a block needs up to MaxRecord and a third more. Read returns the first error
// in input order, whichever worker finds it. When ctx ends, Read does not wait for a read that
// hangs, but waits until use has returned in all workers.
func Read(ctx context.Context, inputs []Input, cfg Config, use func(*Block) error) (Tally, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := &order{cancel: cancel, done: map[int64]*result{}, turns: map[int64]chan struct{}{}}
	r := &reader{
		ctx: ctx, cfg: cfg, order: o, split: NewSplitter(cfg.Layout, nil, cfg.Columns),
		empty: make(chan []byte, cfg.blocks()), full: make(chan *Block, cfg.blocks()),
	}
	for range cfg.blocks() {
		r.empty <- make([]byte, 0, cfg.Block)
	}
	go r.run(inputs)
	var wg sync.WaitGroup
	splitters := make([]*Splitter, cfg.workers())
	for w := range splitters {
		splitters[w] = NewSplitter(cfg.Layout, cfg.Fields, cfg.Columns)
		splitters[w].allFields = cfg.AllFields
		wg.Go(func() { r.work(w, splitters[w], use) })
	}
	wg.Wait()
	o.mu.Lock() // the reader may still be running
	err := o.err
	o.mu.Unlock()
	if err != nil {
		return Tally{}, err
	}
	if ctx.Err() != nil {
		return Tally{}, canceled.Err(ctx)
	}
	// The reader has closed its channel, so it is done.
	o.tally.Add(&r.tally)
	sawObject := func(s *Splitter) bool { return s.sawObject }
	for i, f := range cfg.Fields {
		seen := func(s *Splitter) bool { return s.seenFields[i] }
		if slices.ContainsFunc(splitters, sawObject) && !slices.ContainsFunc(splitters, seen) {
			o.tally.Absent = append(o.tally.Absent, f)
		}
	}
	return o.tally, nil
}

// work passes blocks to use until there are no more, or until one fails. Other workers have the
// earlier blocks.
func (r *reader) work(worker int, split *Splitter, use func(*Block) error) {
	for {
		var b *Block
		select {
		case b = <-r.full:
		case <-r.ctx.Done():
		}
		if b == nil {
			return
		}
		b.begin(worker, split)
		end := b.end(use(b))
		r.order.addResult(end)
		r.empty <- b.buf // never waits, because it has room for all blocks
		if end.err != nil {
			return // use may have left its data for this worker incomplete
		}
	}
}

// reader reads ahead, in its own goroutine.
type reader struct {
	ctx   context.Context
	cfg   Config
	order *order
	tally Tally
	split *Splitter // finds headers, or the number of fields if there is no header

	empty chan []byte // blocks to read into
	full  chan *Block // blocks for the workers

	block []byte // the block being filled
	limit int    // maximum length of block
	start int    // index in block of the first record that was not sent

	seq       int64 // of the next block
	bytesSent int64 // bytes sent to workers
	place           // of the next block
	errLine   int64 // line of an error, relative to the first line not in any block; 0 if the error has its own position
}

func (r *reader) run(inputs []Input) {
	r.block, r.limit = <-r.empty, r.cfg.Block-1
	for i := range inputs {
		if err := r.readInput(&inputs[i]); err != nil {
			// The error follows all blocks that were sent.
			r.order.addResult(&result{seq: r.seq, place: r.place, err: err, errLine: r.errLine})
			return
		}
	}
	close(r.full)
}

func (r *reader) readInput(in *Input) (err error) {
	f, err := in.Open()
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	r.place = place{name: in.Name, isFirst: true}
	var size int64
	for headerDone, eof := false, false; !eof; {
		n, err := r.fill(f)
		size += int64(n)
		if err != nil && err != io.EOF {
			return err
		}
		eof = err == io.EOF
		if n := len(r.block); eof && n > r.start && r.block[n-1] != '\n' {
			r.block = append(r.block, '\n') // add the missing newline; there is room for it beyond the limit
			r.tally.AddedNewlines++
		}
		if !headerDone {
			if headerDone, err = r.begin(eof); err != nil {
				return err
			}
		}
		end := r.start
		if headerDone && eof {
			end = len(r.block) // the worker that splits it finds errors
		} else if headerDone {
			end += r.cfg.Layout.WholeRecords(r.block[r.start:])
		}
		if end == 0 && !eof {
			err = r.grow()
		} else {
			err = r.sendBlock(end)
		}
		if err != nil {
			return err
		}
	}
	if in.Size >= 0 && size != in.Size {
		return &Error{File: in.Name, Err: fmt.Errorf(
			"the file changed while it was read: it had %d bytes, and %d were read", in.Size, size)}
	}
	return nil
}

// fill reads until the block is full or the input ends.
func (r *reader) fill(f io.Reader) (n int, err error) {
	for len(r.block) < r.limit && err == nil {
		if err := canceled.Err(r.ctx); err != nil {
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
