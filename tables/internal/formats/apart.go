package formats

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/worker"
)

const decoder worker.Kind = "decode"

func init() { worker.Handle(decoder, decode) }

// Apart reads files that strangers wrote in processes of their own, which a file
// may end without harm.
type Apart struct {
	memory int64

	mu   sync.Mutex
	lent int64 // of memory
}

const (
	// leastApart is the memory of a process where others have the rest.
	leastApart = 64 << 20
	// besideApart is what a process takes beside: stacks of threads, the program.
	besideApart = 64 << 20

	// A file may hold so many values beside so many for each of its bytes: a column
	// of nulls, or of one value, takes next to none.
	valuesPerByte  = 256
	valuesPerByteP = 16 << 10 // of Parquet and Arrow, which pack them
)

var freeValues int64 = 1 << 24 // tests set it

// NewApart returns what shares so much memory among the files that are read at a
// time: each has half of what others left, and 64 MiB at least.
func NewApart(memory int64) *Apart { return &Apart{memory: memory} }

func (a *Apart) lend() (n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = max(leastApart, (a.memory-a.lent)/2)
	a.lent += n
	return n
}

func (a *Apart) giveBack(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lent -= n
}

// task is what a process is told about its file.
type task struct {
	Name   string
	Format Format
	Sep    string
	Known  []byte
	Memory int64
}

// Read is [Input.Read] in a process of its own, and checks the batches. It reads here
// where processes cannot be started.
func (a *Apart) Read(ctx context.Context, in *Input) (array.RecordReader, error) {
	if !worker.Supported {
		return in.Read(ctx)
	}
	info, err := in.File.Stat()
	if err != nil {
		return nil, err
	}
	memory := a.lend()
	p, err := worker.Start(ctx, decoder, in.File)
	if err != nil {
		a.giveBack(memory)
		return nil, err
	}
	calm := p.KillWith(ctx)
	r := &apart{in: in, ctx: ctx, p: p, memory: memory, left: freeValues + valuesPerByte*info.Size()}
	if in.Format == Parquet || in.Format == Arrow {
		r.left = freeValues + valuesPerByteP*info.Size()
	}
	end := func() {
		calm()
		p.Close()
		a.giveBack(memory)
	}
	if err = p.Send(task{in.Name, in.Format, in.Sep, worker.Schema(in.Known), memory}); err == nil {
		r.batches, err = p.ReceiveBatches(memory)
	}
	if err != nil {
		end()
		return nil, r.explained(err)
	}
	return arrowsafe.Reader(r.batches.Schema, arrowsafe.Until(r.next), func() {
		r.batches.Release()
		end()
	}), nil
}

// apart is a file that is read in a process of its own.
type apart struct {
	in      *Input
	ctx     context.Context
	p       *worker.Process
	batches *worker.Batches
	memory  int64
	left    int64 // values that may follow
}

func (a *apart) next() (arrow.RecordBatch, error) {
	b, err := a.batches.Next()
	if err = a.explained(err); b == nil || err != nil {
		return nil, err
	}
	if a.left -= b.NumRows() * b.NumCols(); a.left < 0 {
		err = fmt.Errorf("%s: %w: it has far more values than bytes, as columns of nothing but nulls have: put it in smaller parts", a.in.Name, partd.ErrTooLarge)
	} else if _, err = arrowsafe.Check(b, a.memory); err != nil {
		err = fmt.Errorf("%s: %w", a.in.Name, err)
	}
	if err != nil {
		b.Release()
		return nil, err
	}
	return b, nil
}

// explained says what an error means, where the process ended.
func (a *apart) explained(err error) error {
	if err = a.p.Died(err); err != nil && a.ctx.Err() != nil {
		return canceled.Err(a.ctx)
	}
	var death *worker.DeathError
	switch {
	case !errors.As(err, &death):
		return err
	case death.Memory:
		return fmt.Errorf("%s: %w: reading it takes more than %d MiB of memory: put it in smaller parts, or Parquet in smaller row groups", a.in.Name, partd.ErrTooLarge, a.memory>>20)
	}
	return fmt.Errorf("%s: the file is damaged: %w", a.in.Name, err)
}

// decode is the process's end.
func decode(c *worker.Conn) error {
	var t task
	if err := c.Receive(&t); err != nil {
		return err
	}
	defer worker.Modest()()
	known, err := worker.ParseSchema(t.Known)
	if err == nil {
		err = worker.Limit(t.Memory + besideApart)
	}
	var r array.RecordReader
	if err == nil {
		r, err = (&Input{Name: t.Name, Format: t.Format, Sep: t.Sep, Known: known, File: worker.File()}).Read(context.Background())
	}
	if err != nil {
		return c.Reply(nil, err)
	}
	defer r.Release()
	return c.SendBatches(r)
}
