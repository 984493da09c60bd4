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

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// Process is a Runner with a database in a separate process, which runs serveStatements.
type Process struct {
	worker        *worker.Process
	dir           string // the database's directory for data beyond the memory limit
	maxBatchBytes int64
	stopWatching  func() bool // stops watching the context of CancelWith; false means that the process was killed
	isOpen        bool        // whether the process has opened the database
	hasEnded      bool        // whether the statement has ended
}

// message is a request to a process. Exactly one field is set.
type message struct {
	Open    *openRequest `json:",omitempty"` // opens a new database
	Reuse   bool         `json:",omitempty"` // prepares the database for another statement: calls Database.Reuse
	NamesOf string       `json:",omitempty"` // a statement whose table names are requested
	Job     *jobMessage  `json:",omitempty"`
}

type openRequest struct {
	Options Options
	Dir     string
}

type jobMessage struct {
	Job
	DescribeOnly bool
	Parameters   []byte // an Arrow stream; can be empty
}

// description is the encoded result of Runner.Describe.
type description struct{ Result, Parameters []byte }

// OpenProcess starts a process and tells it to open a database. It does not wait for the database; Ready does.
func OpenProcess(ctx context.Context, o *Options, dir string) (*Process, error) {
	w, err := worker.Start(ctx, sqlWorker, nil)
	if err != nil {
		return nil, err
	}
	p := &Process{worker: w, dir: dir, maxBatchBytes: o.Memory + processOverhead(o)}
	if err := w.Send(message{Open: &openRequest{*o, dir}}); err != nil {
		p.Close()
		return nil, statementError(w.ExplainError(err))
	}
	return p, nil
}

func (p *Process) IsAlive() bool { return p.worker.IsAlive() }

func (p *Process) CancelWith(ctx context.Context) { p.stopWatching = p.worker.KillWith(ctx) }

func (p *Process) call(request, response any) error {
	err := p.worker.Send(request)
	if err == nil {
		err = p.worker.Receive(response)
	}
	return statementError(p.worker.ExplainError(err))
}

func (p *Process) Ready(ctx context.Context) error {
	if p.isOpen {
		return nil
	}
	defer p.worker.KillWith(ctx)() // from now until the process has opened the database
	return statementError(p.worker.ExplainError(p.worker.Receive(&p.isOpen)))
}

func (p *Process) TableNames(sql string) (names []Name, err error) {
	err = p.call(message{NamesOf: sql}, &names)
	p.hasEnded = true
	return names, err
}

func (p *Process) Describe(j *Job) (result, parameters *arrow.Schema, err error) {
	var reply description
	p.hasEnded = false
	if err := p.call(message{Job: &jobMessage{Job: *j, DescribeOnly: true}}, &reply); err != nil {
		return nil, nil, err
	}
	p.hasEnded = true
	result, err = worker.ParseSchema(reply.Result)
	if err == nil {
		parameters, err = worker.ParseSchema(reply.Parameters)
	}
	return result, parameters, err
}

func (p *Process) Start(ctx context.Context, j *Job) (Rows, error) {
	m := &jobMessage{Job: *j}
	if j.Parameters != nil {
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(j.Parameters.Schema()))
		if err := errors.Join(w.Write(j.Parameters), w.Close()); err != nil {
			return nil, &sqltext.Error{Err: fmt.Errorf("parameters: %w", err)}
		}
		m.Parameters = b.Bytes()
	}
	p.hasEnded = false
	err := p.worker.Send(message{Job: m})
	var batches *worker.Batches
	if err == nil {
		batches, err = p.worker.ReceiveBatches(p.maxBatchBytes)
	}
	if err != nil {
		p.hasEnded = true
		return nil, statementError(p.worker.ExplainError(err))
	}
	return &processRows{ctx, p, batches}, nil
}

// Finish ends the process if its statement has not ended. Either way, no file is open afterwards, so files can be
// removed.
func (p *Process) Finish() {
	if stopped := p.stopWatching == nil || p.stopWatching(); !stopped || !p.hasEnded {
		p.worker.Close()
	}
}

func (p *Process) Reuse() (r Reuse) {
	if !p.prepareNext(message{Reuse: true}, &r) {
		return Reuse{}
	}
	p.isOpen = r.IsPossible
	return r
}

// Reopen makes the process open a new database in dir.
func (p *Process) Reopen(o *Options, dir string) bool {
	if !p.prepareNext(message{Open: &openRequest{*o, dir}}, &p.isOpen) || !p.isOpen {
		return false
	}
	_ = os.RemoveAll(p.dir) // errors do not matter, because Engine.Close removes remaining files
	p.dir = dir
	return true
}

// prepareNext asks the process to prepare for another statement. It reports whether it received the response.
func (p *Process) prepareNext(m message, response any) bool {
	const timeout = 2 * time.Second
	if !p.IsAlive() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	p.CancelWith(ctx)
	p.isOpen = false
	if p.call(m, response) != nil || !p.stopWatching() {
		return false
	}
	p.stopWatching = nil
	return true
}

// Close ends the process.
func (p *Process) Close() {
	p.worker.Close()
	_ = os.RemoveAll(p.dir) // errors do not matter, because Engine.Close removes remaining files
}

type processRows struct {
	ctx     context.Context // Start's context, stored because the methods of Rows take none
	process *Process
	batches *worker.Batches
}

func (r *processRows) Schema() *arrow.Schema { return r.batches.Schema }

func (r *processRows) Next() (arrow.RecordBatch, error) {
	if err := canceled.Err(r.ctx); err != nil {
		return nil, err
	}
	batch, err := r.batches.Next()
	r.process.hasEnded = r.batches.Ended()
	return batch, statementError(r.process.worker.ExplainError(err))
}

// Messages yields the result as encoded Arrow messages, as an alternative to Next. Each message is valid until the
// next.
func (r *processRows) Messages() iter.Seq2[arrowsafe.Message, error] {
	return func(yield func(arrowsafe.Message, error) bool) {
		defer func() { r.process.hasEnded = r.batches.Ended() }()
		for m, err := range r.batches.Messages() {
			err = cmp.Or(canceled.Err(r.ctx), statementError(r.process.worker.ExplainError(err)))
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

func (r *processRows) End() { r.batches.Release() }

// If err means that the process has died, statementError returns an error about the statement. Otherwise, it returns
// err.
func statementError(err error) error {
	death, ok := errors.AsType[*worker.DeathError](err)
	if !ok {
		return err
	}
	if death.Memory {
		return &sqltext.Error{Err: OutOfMemoryError(fmt.Errorf("the statement was stopped: %w", err))}
	}
	return &sqltext.Error{Err: fmt.Errorf("the statement was stopped: %w", err)}
}
