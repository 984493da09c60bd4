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

// work runs statements one after the other, each in the steps of [Process]: it
// opens a database, returns the names of tables in the statement, and describes or
// runs it. It ends where it has grown, or has gone behind others.
func work(c *worker.Conn) error {
	for {
		if err := workOne(c); err != nil || worker.Grown(mayGrow) || worker.Behind() {
			return err
		}
	}
}

func workOne(c *worker.Conn) error {
	var o opening
	if err := c.Receive(&o); err != nil {
		return err
	}
	d, err := Open(&o.Options, o.Dir)
	if err == nil {
		defer d.Close()
		worker.Grown(mayGrow) // from here on, at the first database
		err = worker.Limit(o.Options.Memory + besideMemory(&o.Options))
	}
	if err := errors.Join(err, c.Reply(true, err)); err != nil {
		return err
	}
	var sql string
	if err := c.Receive(&sql); err != nil {
		return err
	}
	defer worker.Modest()()
	names, failed := d.Names(sql)
	if err := c.Reply(names, failed); err != nil || failed != nil {
		return err
	}
	var m jobMessage
	if err := c.Receive(&m); err != nil {
		return err
	}
	if err := worker.Limit(m.Memory + besideMemory(&o.Options)); err != nil {
		return c.Reply(nil, err)
	}
	if m.Describe {
		return d.tell(c, &m)
	}
	return d.send(c, &m)
}

func (d *Database) tell(c *worker.Conn, m *jobMessage) error {
	result, parameters, err := d.Describe(&m.Job)
	if err != nil {
		return c.Reply(nil, err)
	}
	return c.Send(description{worker.Schema(result), worker.Schema(parameters)})
}

func (d *Database) send(c *worker.Conn, m *jobMessage) error {
	if len(m.Parameters) > 0 {
		r, err := arrowsafe.NewReader(bytes.NewReader(m.Parameters), int64(len(m.Parameters)), m.Memory)
		if err != nil || !r.Next() {
			return c.Reply(nil, errors.Join(errors.New("the parameters cannot be read"), err))
		}
		m.Job.Parameters = r.RecordBatch()
	}
	result, err := d.Start(context.Background(), &m.Job)
	if err != nil {
		return c.Reply(nil, err)
	}
	return c.SendBatches(arrowsafe.Reader(result.Schema(), arrowsafe.Until(result.Next), result.End))
}
