//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

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
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/sqlerror"
	"github.com/go-partd/partd/tables/internal/worker"
)

// Process is a database in a process of its own, as this one has it. Work is its
// other end.
type Process struct {
	p    *worker.Process
	dir  string // of the database, as its dir
	most int64  // bytes of a batch
	calm func() bool
	open bool // it said that the database is
	done bool // with its statement
}

// message is what a process is told: one of these.
type message struct {
	Open  *opening    `json:",omitempty"` // a new database
	Again bool        `json:",omitempty"` // Database.Again
	Names string      `json:",omitempty"` // of the tables in a statement are wanted
	Job   *jobMessage `json:",omitempty"`
}

type opening struct {
	Options Options
	Dir     string
}

// jobMessage is a job on its way.
type jobMessage struct {
	Job
	Describe   bool
	Parameters []byte // a stream of Arrow, or none
}

// description is the answer to Runner.Describe on its way.
type description struct{ Result, Parameters []byte }

// OpenProcess opens one in a process of its own.
func OpenProcess(ctx context.Context, o *Options, dir string) (*Process, error) {
	p, err := worker.Start(ctx, sqlWorker, nil)
	if err != nil {
		return nil, err
	}
	d := &Process{p: p, dir: dir, most: o.Memory + besideMemory(o)}
	if err := p.Send(message{Open: &opening{*o, dir}}); err != nil {
		d.Close()
		return nil, died(p.Died(err))
	}
	return d, nil
}

func (d *Process) Lives() bool { return d.p.Lives() }

func (d *Process) Heed(ctx context.Context) { d.calm = d.p.KillWith(ctx) }

// ask sends a question, and receives the answer.
func (d *Process) ask(question, answer any) error {
	err := d.p.Send(question)
	if err == nil {
		err = d.p.Receive(answer)
	}
	return died(d.p.Died(err))
}

func (d *Process) Ready(ctx context.Context) error {
	if d.open {
		return nil
	}
	defer d.p.KillWith(ctx)()
	return died(d.p.Died(d.p.Receive(&d.open)))
}

func (d *Process) Names(sql string) (all []Name, err error) {
	if err := d.Ready(context.Background()); err != nil { // Heed ends it
		return nil, err
	}
	err = d.ask(message{Names: sql}, &all)
	d.done = true
	return all, err
}

func (d *Process) Describe(j *Job) (result, parameters *arrow.Schema, err error) {
	if err := d.Ready(context.Background()); err != nil { // Heed ends it
		return nil, nil, err
	}
	var found description
	d.done = false
	if err := d.ask(message{Job: &jobMessage{Job: *j, Describe: true}}, &found); err != nil {
		return nil, nil, err
	}
	d.done = true
	if result, err = worker.ParseSchema(found.Result); err == nil {
		parameters, err = worker.ParseSchema(found.Parameters)
	}
	return result, parameters, err
}

func (d *Process) Start(ctx context.Context, j *Job) (Rows, error) {
	if err := d.Ready(context.Background()); err != nil { // Heed ends it
		return nil, err
	}
	m := &jobMessage{Job: *j}
	if j.Parameters != nil {
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(j.Parameters.Schema()))
		if err := errors.Join(w.Write(j.Parameters), w.Close()); err != nil {
			return nil, &sqlerror.Error{Err: fmt.Errorf("the parameters: %w", err)}
		}
		m.Parameters = b.Bytes()
	}
	d.done = false
	err := d.p.Send(message{Job: m})
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

// Finish ends the process where it is not done with its statement. A file that it
// still has open may be removed.
func (d *Process) Finish() {
	if calmed := d.calm == nil || d.calm(); !calmed || !d.done {
		d.p.Close()
	}
}

func (d *Process) Again() bool { return d.next(message{Again: true}) }

// Renew is Runner's: the database gets a directory of its own.
func (d *Process) Renew(o *Options, dir string) bool {
	if !d.next(message{Open: &opening{*o, dir}}) {
		return false
	}
	_ = os.RemoveAll(d.dir) // as close does
	d.dir = dir
	return true
}

// next asks for a database for another statement, and reports whether there is one.
func (d *Process) next(m message) bool {
	const patience = 2 * time.Second
	if !d.Lives() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d.Heed(ctx)
	d.open = false
	if d.ask(m, &d.open) != nil || !d.calm() {
		return false
	}
	d.calm = nil
	return d.open
}

// Close ends it.
func (d *Process) Close() {
	d.p.Close()
	_ = os.RemoveAll(d.dir) // what is left goes with the engine's directory
}

// received is the result of a statement that runs in a process of its own.
type received struct {
	ctx     context.Context // of Start; Rows' methods have none
	d       *Process
	batches *worker.Batches
}

func (r *received) Schema() *arrow.Schema { return r.batches.Schema }

func (r *received) Next() (arrow.RecordBatch, error) {
	if err := canceled.Err(r.ctx); err != nil {
		return nil, err
	}
	batch, err := r.batches.Next()
	r.d.done = batch == nil
	return batch, died(r.d.p.Died(err))
}

// Messages are the result as it came, in the place of Next. Each is valid until the
// next one.
func (r *received) Messages() iter.Seq2[arrowsafe.Message, error] {
	return func(yield func(arrowsafe.Message, error) bool) {
		for m, err := range r.batches.Messages() {
			if err = cmp.Or(canceled.Err(r.ctx), died(r.d.p.Died(err))); !yield(m, err) || err != nil {
				return
			}
		}
		r.d.done = true
	}
}

func (r *received) End() { r.batches.Release() }

// died makes the death of a process an error of its statement.
func died(err error) error {
	death, ok := errors.AsType[*worker.DeathError](err)
	if !ok {
		return err
	}
	if death.Memory {
		//lint:ignore ST1005 DuckDB begins its own errors so
		return &sqlerror.Error{Err: fmt.Errorf("Out of Memory error: the statement was ended: %w: %s", err, moreMemory)}
	}
	return &sqlerror.Error{Err: fmt.Errorf("the statement was ended: %w", err)}
}
