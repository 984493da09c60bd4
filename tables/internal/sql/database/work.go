//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"bytes"
	"context"
	"errors"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

const sqlWorker worker.Kind = "sql"

func init() { worker.Handle(sqlWorker, serveStatements) }

// processOverhead returns how many bytes a process may use beyond its statement's limit, for memory that DuckDB does
// not count: thread stacks of 8 MiB each, Go's threads, plans, and values in transit.
func processOverhead(o *Options) int64 { return 80<<20 + int64(o.Threads)*8<<20 }

// maxGrowth is how many bytes a process may grow after opening its first database. A process that has grown by more
// than this does not open another database.
const maxGrowth = 32 << 20

// serveStatements answers the requests of a [Process], one after another: it opens a database, returns the names of a
// statement's tables, and describes or runs the statement.
func serveStatements(c *worker.Conn) error {
	w := &session{c: c}
	defer w.close()
	for {
		var m message
		if err := c.Receive(&m); err != nil {
			return err
		}
		var err error
		switch {
		case m.Open != nil:
			w.pause()
			if w.close() && w.isUsedUp() {
				return nil
			}
			err = w.openDatabase(m.Open)
		case m.Reuse:
			w.pause()
			var reuse Reuse
			if !worker.HasLowPriority() {
				reuse = w.d.Reuse()
			}
			reuse.Growth = worker.Growth()
			err = c.Send(reuse)
			if reuse.IsPossible {
				w.d.PrepareAgain()
			}
		case m.Job != nil:
			w.begin()
			err = w.run(m.Job)
			w.pause()
			w.d.Finish()
		default:
			w.begin()
			names, namesErr := w.d.TableNames(m.NamesOf)
			err = c.Reply(names, namesErr)
		}
		if err != nil {
			return err
		}
	}
}

type session struct {
	c               *worker.Conn
	d               *Database
	o               Options
	restorePriority func() // set while worker.LowerPriorityLater is in effect
}

// begin starts the timer of worker.LowerPriorityLater for a statement, unless the timer is running.
func (w *session) begin() {
	if w.restorePriority == nil {
		w.restorePriority = worker.LowerPriorityLater()
	}
}

func (w *session) pause() {
	if w.restorePriority != nil {
		w.restorePriority()
		w.restorePriority = nil
	}
}

// isUsedUp reports whether the process must not open another database, because it has grown by more than maxGrowth or
// has a low priority.
func (w *session) isUsedUp() bool { return worker.Growth() > maxGrowth || worker.HasLowPriority() }

func (w *session) close() bool {
	if w.d == nil {
		return false
	}
	w.d.Close()
	return true
}

func (w *session) openDatabase(o *openRequest) error {
	w.o = o.Options
	d, err := Open(&o.Options, o.Dir)
	if err == nil {
		w.d, d.mergesChunks = d, true // SendBatches merges batches too
		worker.Growth()               // the first call starts the measurement of growth
		err = worker.Limit(o.Options.Memory + processOverhead(&o.Options))
	}
	return errors.Join(err, w.c.Reply(true, err))
}

func (w *session) run(m *jobMessage) error {
	if err := worker.Limit(m.Memory + processOverhead(&w.o)); err != nil {
		return w.c.Reply(nil, err)
	}
	if m.DescribeOnly {
		result, parameters, err := w.d.Describe(&m.Job)
		return w.c.Reply(description{worker.Schema(result), worker.Schema(parameters)}, err)
	}
	if len(m.Parameters) > 0 {
		r, err := arrowsafe.NewReader(bytes.NewReader(m.Parameters), int64(len(m.Parameters)), m.Memory)
		if err != nil || !r.Next() {
			return w.c.Reply(nil, errors.Join(errors.New("cannot read the parameters"), err))
		}
		m.Job.Parameters = r.RecordBatch()
	}
	result, err := w.d.Start(context.Background(), &m.Job)
	if err != nil {
		return w.c.Reply(nil, err)
	}
	return w.c.SendBatches(batches.Reader(result.Schema(), batches.Until(result.Next), result.End))
}
