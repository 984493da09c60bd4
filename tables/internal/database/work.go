//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"bytes"
	"context"
	"errors"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/worker"
)

const sqlWorker worker.Kind = "sql"

func init() { worker.Handle(sqlWorker, work) }

// besideMemory is what a process may take beside a statement's memory, which
// DuckDB does not count all of: stacks of threads, of which each claims 8 MiB and Go has
// some more, plans, values on their way.
func besideMemory(o *Options) int64 { return 80<<20 + int64(o.Threads)*8<<20 }

// mayGrow is how much more than with its first database a process may have that gets
// another statement.
const mayGrow = 32 << 20

// work runs statements one after the other, each in the steps of [Process]: it has a
// database, returns the names of tables in the statement, and describes or runs it.
func work(c *worker.Conn) error {
	w := &serving{c: c}
	defer w.close()
	for {
		var m message
		if err := c.Receive(&m); err != nil {
			return err
		}
		var err error
		switch {
		case m.Open != nil:
			w.rest()
			if w.close() && w.usedUp() {
				return nil
			}
			err = w.open(m.Open)
		case m.Again:
			w.rest()
			err = c.Send(!w.usedUp() && w.d.Again())
		case m.Job != nil:
			w.begin()
			err = w.run(m.Job)
			w.rest()
			w.d.Finish()
		default:
			w.begin()
			names, failed := w.d.Names(m.Names)
			err = c.Reply(names, failed)
		}
		if err != nil {
			return err
		}
	}
}

// serving is a process at work.
type serving struct {
	c    *worker.Conn
	d    *Database
	o    Options
	calm func() // ends worker.Modest; nil: it has not begun
}

// begin begins a statement, or goes on with it.
func (w *serving) begin() {
	if w.calm == nil {
		w.calm = worker.Modest()
	}
}

// rest ends a statement.
func (w *serving) rest() {
	if w.calm != nil {
		w.calm()
		w.calm = nil
	}
}

// usedUp reports whether the process has grown, or has gone behind others, and so has no other statement.
func (w *serving) usedUp() bool { return worker.Grown(mayGrow) || worker.Behind() }

// close reports whether there was a database.
func (w *serving) close() bool {
	if w.d == nil {
		return false
	}
	w.d.Close()
	return true
}

func (w *serving) open(o *opening) error {
	w.o = o.Options
	d, err := Open(&o.Options, o.Dir)
	if err == nil {
		w.d = d
		worker.Grown(mayGrow) // from here on, at the first database
		err = worker.Limit(o.Options.Memory + besideMemory(&o.Options))
	}
	return errors.Join(err, w.c.Reply(true, err))
}

func (w *serving) run(m *jobMessage) error {
	if err := worker.Limit(m.Memory + besideMemory(&w.o)); err != nil {
		return w.c.Reply(nil, err)
	}
	if m.Describe {
		result, parameters, err := w.d.Describe(&m.Job)
		return w.c.Reply(description{worker.Schema(result), worker.Schema(parameters)}, err)
	}
	if len(m.Parameters) > 0 {
		r, err := arrowsafe.NewReader(bytes.NewReader(m.Parameters), int64(len(m.Parameters)), m.Memory)
		if err != nil || !r.Next() {
			return w.c.Reply(nil, errors.Join(errors.New("the parameters cannot be read"), err))
		}
		m.Job.Parameters = r.RecordBatch()
	}
	result, err := w.d.Start(context.Background(), &m.Job)
	if err != nil {
		return w.c.Reply(nil, err)
	}
	return w.c.SendBatches(arrowsafe.Reader(result.Schema(), arrowsafe.Until(result.Next), result.End))
}
