package records

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/go-partd/partd"
)

// Input is a file to read.
type Input struct {
	Name string // for messages
	Open func() (io.ReadCloser, error)
	Size int64 // in bytes, -1 if it is not known before it was read
}

// Config says how to read.
type Config struct {
	Layout    Layout
	Field     Field
	Columns   []string      // the header that every input must have, nil for none
	Block     int           // bytes read at once, at least 16
	MaxRecord int           // the longest record, in bytes, at least Block
	SkipBad   bool          // leave out and count records whose key cannot be found, instead of failing
	Read      *atomic.Int64 // bytes read so far, for others to look at; may be nil
}

// Memory returns how many bytes Read takes as long as no record is longer than
// a block. A longer one takes up to MaxRecord bytes and a third more.
func (c *Config) Memory() int64 {
	return blocks * (int64(c.Block) + int64(c.batch())*entrySize)
}

// batch returns how many entries are handed over at once at most.
func (c *Config) batch() int { return max(c.Block/128, 1) }

const (
	blocks    = 3  // one read into, one waiting, one used
	entrySize = 40 // bytes of a partd.Entry on 64-bit machines
)

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
	AddedNewlines int64 // at the ends of files that lack the last one
}

// Accounted tells whether each byte read is in one of the counts.
func (t *Tally) Accounted() bool {
	return t.ReadBytes+t.AddedNewlines == t.HeaderBytes+t.BlankBytes+t.BadBytes+t.RecordBytes
}

// Read reads inputs one after the other and hands their records over, in order,
// as entries of key and record. Another goroutine reads ahead, by two blocks at
// most. What use is given is valid until it returns, the keys too, as
// [partd.Partd.Append] allows.
//
// When ctx ends, Read returns without waiting for a read that hangs.
func Read(ctx context.Context, inputs []Input, cfg Config, use func([]partd.Entry) error) (Tally, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := newReader(ctx, cfg)
	go r.run(inputs)
	for {
		select {
		case b := <-r.full:
			if b.end {
				return r.tally, r.err
			}
			if len(b.entries) > 0 {
				if err := use(b.entries); err != nil {
					return Tally{}, err
				}
			}
			// Both have room for all there are: these never wait.
			r.lists <- b.entries[:0]
			if b.block != nil {
				r.empty <- b.block
			}
		case <-ctx.Done():
			return Tally{}, context.Cause(ctx)
		}
	}
}

// reader is the goroutine that reads ahead.
type reader struct {
	ctx   context.Context
	cfg   Config
	split *Splitter
	tally Tally
	err   error

	empty chan []byte        // blocks to read into
	lists chan []partd.Entry // lists of entries to fill
	full  chan batch         // to use

	block   []byte // read into, its length is how far it is filled
	limit   int    // how far to fill it
	start   int    // where in it the first record begins that was not found yet
	entries []partd.Entry
}

// batch is what is handed over. The block goes with its last entries.
type batch struct {
	entries []partd.Entry
	block   []byte
	end     bool
}

func newReader(ctx context.Context, cfg Config) *reader {
	r := &reader{
		ctx: ctx, cfg: cfg, split: NewSplitter(cfg.Layout, cfg.Field, cfg.Columns),
		empty: make(chan []byte, blocks),
		lists: make(chan []partd.Entry, blocks),
		full:  make(chan batch, blocks),
	}
	if r.cfg.Read == nil {
		r.cfg.Read = new(atomic.Int64)
	}
	for range blocks {
		r.empty <- make([]byte, 0, cfg.Block)
		r.lists <- make([]partd.Entry, 0, cfg.batch())
	}
	return r
}

func (r *reader) run(inputs []Input) {
	r.err = r.readAll(inputs)
	// The channel orders the writes of tally and err before their use.
	_ = r.send(batch{end: true})
}

func (r *reader) readAll(inputs []Input) error {
	r.block, r.limit, r.entries = <-r.empty, r.cfg.Block-1, <-r.lists
	for i := range inputs {
		if err := r.readInput(&inputs[i]); err != nil {
			return err
		}
	}
	return r.send(batch{entries: r.entries, block: r.block})
}

func (r *reader) readInput(in *Input) (err error) {
	f, err := in.Open()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	r.split.Begin()
	var size int64
	for first, eof := true, false; !eof; first = false {
		n, err := r.fill(f)
		size += int64(n)
		if err != nil && err != io.EOF {
			return err
		}
		if eof = err == io.EOF; eof {
			r.endLine()
		}
		if first {
			r.skipMark()
		}
		if err := r.parse(in, eof); err != nil {
			return err
		}
		if eof && r.limit-len(r.block) > r.cfg.Block/2 {
			break // the next input shares the block
		}
		if !eof && r.start == 0 {
			err = r.grow(in)
		} else {
			err = r.turn()
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
		if err := context.Cause(r.ctx); err != nil {
			return n, err
		}
		var m int
		m, err = f.Read(r.block[len(r.block):r.limit])
		r.block = r.block[:len(r.block)+m]
		n += m
		r.cfg.Read.Add(int64(m))
	}
	r.tally.ReadBytes += int64(n)
	return n, err
}

// endLine adds the newline that a file's last line lacks. The block has room
// for it beyond the limit.
func (r *reader) endLine() {
	if n := len(r.block); n > r.start && r.block[n-1] != '\n' {
		r.block = append(r.block, '\n')
		r.tally.AddedNewlines++
	}
}

const mark = "\uFEFF"

// skipMark skips the byte order mark that a file may begin with.
func (r *reader) skipMark() {
	rest := r.block[r.start:]
	if len(rest) >= len(mark) && string(rest[:len(mark)]) == mark {
		r.start += len(mark)
		r.tally.HeaderBytes += int64(len(mark))
	}
}
