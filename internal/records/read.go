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
	Size int64 // what reading it gives, in bytes, -1 if it is not known before
}

// Config says how to read.
type Config struct {
	Layout    Layout
	Fields    []Field  // those to find in each record
	AllFields bool     // of CSV, TSV and text: all are found, in their order, instead of Fields
	Columns   []string // the header that every input must have, nil for none
	Block     int      // bytes read at once, at least 16
	MaxRecord int      // the longest record, in bytes, at least Block
	Workers   int      // goroutines that find fields and call use, at least one
	SkipBad   bool     // leave out and count records that are bad, instead of failing
}

func (c *Config) workers() int { return max(c.Workers, 1) }

// blocks returns how many blocks there are: one read into, one waiting, and one
// for each worker.
func (c *Config) blocks() int { return 2 + c.workers() }

// Tally counts what was read, in bytes and in records.
type Tally struct {
	ReadBytes     int64 // all that was read
	HeaderBytes   int64 // headers and byte order marks
	BlankLines    int64
	BlankBytes    int64
	BadRecords    int64
	BadBytes      int64
	FirstBad      error // of the first bad record that was left out
	Records       int64 // handed over
	RecordBytes   int64
	First         []byte  // JSON lines: the first of them
	Absent        []Field // JSON lines: those asked for that no record had
	AddedNewlines int64   // at the ends of files that lack the last one
}

// Accounted reports whether each byte read is in one of the counts.
func (t *Tally) Accounted() bool {
	return t.ReadBytes+t.AddedNewlines == t.HeaderBytes+t.BlankBytes+t.BadBytes+t.RecordBytes
}

// Add adds what another tally counts, and the first bad record if t has none.
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

// Read reads inputs one after the other, in blocks of whole records. Several
// workers find the records and fields of a block each, at the same time; use is
// called by each of them, and takes all records of its block with [Block.Next].
// What a block holds is valid until use returns. Where the order of the records
// matters, use calls [Block.Turn].
//
// Another goroutine reads ahead, by two blocks at most. Blocks take (Workers + 2) ×
// Block bytes; a record longer than one takes up to MaxRecord and a third more. The error that Read
// returns is the first in the order of the records, whatever worker finds it.
// When ctx ends, Read returns without waiting for a read that hangs, but not
// before use has returned everywhere.
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
		splitters[w].all = cfg.AllFields
		wg.Go(func() { r.work(w, splitters[w], use) })
	}
	wg.Wait()
	o.mu.Lock() // the reader may hang, and end later
	err := o.err
	o.mu.Unlock()
	if err != nil {
		return Tally{}, err
	}
	if ctx.Err() != nil {
		return Tally{}, canceled.Err(ctx)
	}
	// The reader has closed its channel: it is done.
	o.tally.Add(&r.tally)
	looked := func(s *Splitter) bool { return s.looked }
	for i, f := range cfg.Fields {
		found := func(s *Splitter) bool { return s.found[i] }
		if slices.ContainsFunc(splitters, looked) && !slices.ContainsFunc(splitters, found) {
			o.tally.Absent = append(o.tally.Absent, f)
		}
	}
	return o.tally, nil
}

// work hands blocks over until there are no more.
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
		err := use(b)
		r.order.finish(b.end(err))
		r.empty <- b.buf // has room for all there are: this never waits
	}
}

// reader is the goroutine that reads ahead.
type reader struct {
	ctx   context.Context
	cfg   Config
	order *order
	tally Tally
	split *Splitter // finds headers, and the number of fields where there is none

	empty chan []byte // blocks to read into
	full  chan *Block // to use

	block []byte // read into, its length is how far it is filled
	limit int    // how far to fill it
	start int    // where in it the first record begins that was not handed over yet

	seq     int64 // of the next block
	sent    int64 // bytes handed over
	place         // of the next block
	errLine int64 // of an error: the line, counted from the first that no block holds; 0 if it says itself where
}

func (r *reader) run(inputs []Input) {
	r.block, r.limit = <-r.empty, r.cfg.Block-1
	for i := range inputs {
		if err := r.readInput(&inputs[i]); err != nil {
			// It comes after all blocks that were handed over.
			r.order.finish(&result{seq: r.seq, place: r.place, err: err, errLine: r.errLine})
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
	r.place = place{name: in.Name, fresh: true}
	var size int64
	for begun, eof := false, false; !eof; {
		n, err := r.fill(f)
		size += int64(n)
		if err != nil && err != io.EOF {
			return err
		}
		eof = err == io.EOF
		if n := len(r.block); eof && n > r.start && r.block[n-1] != '\n' {
			r.block = append(r.block, '\n') // the last line lacks it, and there is room beyond the limit
			r.tally.AddedNewlines++
		}
		if !begun {
			if begun, err = r.begin(eof); err != nil {
				return err
			}
		}
		end := r.start
		if begun && eof {
			end = len(r.block) // whoever splits it finds what is wrong with it
		} else if begun {
			end += r.cfg.Layout.Whole(r.block[r.start:])
		}
		if end == 0 && !eof {
			err = r.grow()
		} else {
			err = r.turn(end)
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
