//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/worker"
)

// process is a database in a process of its own, as this one has it. Work is its
// other end.
type process struct {
	p    *worker.Process
	dir  string // of the database, as its dir
	most int64  // bytes of a batch
	calm func() bool
	open bool // it said that the database is
	done bool // with its statement
}

// opening is what a process is told at first.
type opening struct {
	Options Options
	Dir     string
}

// jobMessage is a job on its way.
type jobMessage struct {
	job
	Describe   bool
	Parameters []byte // a stream of Arrow, or none
}

// description is a tables.QueryDescription on its way.
type description struct{ Result, Parameters []byte }

func openProcess(o *Options, dir string) (*process, error) {
	p, err := worker.Start(sqlWorker, nil)
	if err != nil {
		return nil, err
	}
	d := &process{p: p, dir: dir, most: o.Memory + besideMemory(o)}
	if err := p.Send(opening{*o, dir}); err != nil {
		d.close()
		return nil, died(p.Died(err))
	}
	return d, nil
}

func (d *process) lives() bool { return d.p.Lives() }

func (d *process) heed(ctx context.Context) { d.calm = d.p.KillWith(ctx) }

// ask sends a question, and receives the answer.
func (d *process) ask(question, answer any) error {
	err := d.p.Send(question)
	if err == nil {
		err = d.p.Receive(answer)
	}
	return died(d.p.Died(err))
}

func (d *process) names(sql string) (all []name, err error) {
	if !d.open {
		if err := d.p.Receive(&d.open); err != nil {
			return nil, died(d.p.Died(err))
		}
	}
	err = d.ask(sql, &all)
	d.done = err != nil
	return all, err
}

func (d *process) describe(j *job) (*tables.QueryDescription, error) {
	d.done = true
	var found description
	if err := d.ask(jobMessage{job: *j, Describe: true}, &found); err != nil {
		return nil, err
	}
	result, err := worker.ParseSchema(found.Result)
	if err != nil {
		return nil, err
	}
	parameters, err := worker.ParseSchema(found.Parameters)
	return &tables.QueryDescription{Result: result, Parameters: parameters}, err
}

func (d *process) start(ctx context.Context, j *job) (rows, error) {
	m := jobMessage{job: *j}
	if j.parameters != nil {
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(j.parameters.Schema()))
		if err := errors.Join(w.Write(j.parameters), w.Close()); err != nil {
			return nil, &tables.SQLError{Err: fmt.Errorf("the parameters: %w", err)}
		}
		m.Parameters = b.Bytes()
	}
	err := d.p.Send(m)
	var batches *worker.Batches
	if err == nil {
		batches, err = d.p.ReceiveBatches(d.most)
	}
	if err != nil {
		d.done = true
		return nil, died(d.p.Died(err))
	}
	return &received{ctx, d, batches}, nil
}

// finish ends the process where it is not done with its statement. A file that it
// still has open may be removed.
func (d *process) finish() {
	if calmed := d.calm == nil || d.calm(); !calmed || !d.done {
		d.p.Close()
	}
}

// renew makes the process ready for another statement, with a directory of its own.
func (d *process) renew(o *Options, dir string) bool {
	const patience = 2 * time.Second
	if !d.lives() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d.heed(ctx)
	d.open, d.done = false, false
	if d.p.Send(opening{*o, dir}) != nil || d.p.Receive(&d.open) != nil || !d.calm() {
		return false
	}
	_ = os.RemoveAll(d.dir) // as close does
	d.dir, d.calm = dir, nil
	return true
}

func (d *process) close() {
	d.p.Close()
	_ = os.RemoveAll(d.dir) // what is left goes with the engine's directory
}

// received is the result of a statement that runs in a process of its own.
type received struct {
	ctx     context.Context // of Query; rows' methods have none
	d       *process
	batches *worker.Batches
}

func (r *received) schema() *arrow.Schema { return r.batches.Schema }

func (r *received) next() (arrow.RecordBatch, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	batch, err := r.batches.Next()
	r.d.done = batch == nil
	return batch, died(r.d.p.Died(err))
}

func (r *received) end() { r.batches.Release() }

// encoded is a reader of such a result, which can also be read undecoded.
type encoded struct {
	array.RecordReader
	apart  *received
	failed func(error) error
	err    error
}

// Messages are the result, as Flight carries it, in the place of Next. Each is valid
// until the next one.
func (e *encoded) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m, err := range e.apart.batches.Messages() {
			if err = cmp.Or(e.apart.ctx.Err(), died(e.apart.d.p.Died(err))); err != nil {
				e.err = e.failed(err)
				return
			}
			if !yield(m) {
				return
			}
		}
		e.apart.d.done = true
	}
}

func (e *encoded) Err() error { return cmp.Or(e.err, e.RecordReader.Err()) }

// died makes the death of a process an error of its statement.
func died(err error) error {
	var death *worker.DeathError
	if !errors.As(err, &death) {
		return err
	}
	if death.Memory {
		//lint:ignore ST1005 DuckDB begins its own errors so
		return &tables.SQLError{Err: fmt.Errorf("Out of Memory error: the statement was ended: %w: let it make fewer or smaller values at a time", err)}
	}
	return &tables.SQLError{Err: fmt.Errorf("the statement was ended: %w", err)}
}
