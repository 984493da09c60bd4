//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// stream is the result of a running statement.
type stream struct {
	d         *Database
	ctx       context.Context // Start's context, stored because the methods of Rows take none
	sql       string
	result    duckdb.Result
	chunks    chunks
	options   duckdb.ArrowOptions
	raw       *arrow.Schema // schema with DuckDB's types; see Database.schema
	shown     *arrow.Schema // schema with the types that readers get
	hasResult bool
}

func (d *Database) stream(ctx context.Context, sql string) (_ *stream, err error) {
	s := &stream{d: d, ctx: ctx, sql: sql}
	defer func() {
		if err != nil {
			s.End()
		}
	}()
	var pending duckdb.PendingResult
	defer duckdb.DestroyPending(&pending)
	if duckdb.PendingPreparedStreaming(d.stmt, &pending) == duckdb.StateError {
		return nil, decodeError(sql, duckdb.PendingError(pending))
	}
	state := duckdb.ExecutePending(pending, &s.result)
	s.hasResult = true
	if state == duckdb.StateError {
		return nil, decodeError(sql, duckdb.ResultError(&s.result))
	}
	if err := canceled.Err(ctx); err != nil {
		return nil, err
	}
	s.chunks.result = s.result
	if d.mergesChunks {
		s.chunks.mergeSmall()
	}
	s.options = duckdb.ResultGetArrowOptions(&s.result)
	s.raw, s.shown, err = d.schema(duckdb.ColumnCount(&s.result), func(i duckdb.IdxT) (string, duckdb.LogicalType) {
		return duckdb.ColumnName(&s.result, i), duckdb.ColumnLogicalType(&s.result, i)
	})
	return s, err
}

func (s *stream) Schema() *arrow.Schema { return s.shown }

func (s *stream) End() {
	s.chunks.close()
	if s.options.Ptr != nil {
		duckdb.DestroyArrowOptions(&s.options)
	}
	if s.hasResult {
		duckdb.DestroyResult(&s.result)
	}
}

// interruptWith interrupts a connection repeatedly after a context ends, until the returned function is called. A
// single interrupt is not enough, because a query that is about to begin clears the interrupt.
func interruptWith(ctx context.Context, conn duckdb.Connection) (stopInterrupting func()) {
	const interval = 20 * time.Millisecond
	stopped, exited := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(exited)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			duckdb.Interrupt(conn)
			select {
			case <-stopped:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(stopped)
		if !stop() {
			<-exited
		}
	}
}

// Next returns the next batch, or nil at the end.
func (s *stream) Next() (arrow.RecordBatch, error) {
	if err := canceled.Err(s.ctx); err != nil {
		return nil, err
	}
	chunk := s.chunks.next()
	defer duckdb.DestroyDataChunk(&chunk)
	if message := duckdb.ResultError(&s.result); message != "" {
		return nil, decodeError(s.sql, message)
	}
	if err := canceled.Err(s.ctx); err != nil {
		return nil, err // an interrupted query can look complete
	}
	if chunk.Ptr == nil {
		s.d.isIncomplete = false
		return nil, nil
	}
	batch, err := arrowBatch(s.options, s.raw, chunk)
	if err != nil {
		return nil, &sqltext.Error{Err: err}
	}
	for i, c := range batch.Columns() {
		if c.DataType().ID() == arrow.DECIMAL128 {
			continue // convertHugeInts checks HUGEINT
		}
		if err := checkRange(c); err != nil {
			batch.Release()
			return nil, &sqltext.Error{Err: fmt.Errorf("column %q contains %w: cast it to VARCHAR, or leave it out", batch.ColumnName(i), err)}
		}
	}
	if s.shown == s.raw {
		return batch, nil
	}
	defer batch.Release()
	return convertHugeInts(batch, s.shown)
}

// checkRange returns an error if an array contains a value that Arrow's types cannot represent. Infinite dates
// and timestamps are allowed: Arrow represents them by its largest and smallest values, which tables can contain.
func checkRange(a arrow.Array) error {
	switch t := arrowtype.Of(a.DataType()); {
	case t.Kind == arrowtype.Time:
		for i, v := range t.Ordered(a) {
			if v == int64(24*time.Hour/unitOf(a).Multiplier()) && a.IsValid(i) {
				return errors.New("the time 24:00:00")
			}
		}
	case t.Decimals != nil:
		value := t.Decimals(a)
		for i := range a.Len() {
			if a.IsValid(i) && !value(i).FitsInPrecision(38) { // a HUGEINT
				return errors.New("an integer of more than 38 digits")
			}
		}
	}
	for _, child := range arrowtype.Children(a) {
		if err := checkRange(child); err != nil {
			return err
		}
	}
	return nil
}

// convertHugeInts converts a batch to the result's schema, where int64 replaces 128-bit integers.
func convertHugeInts(batch arrow.RecordBatch, schema *arrow.Schema) (arrow.RecordBatch, error) {
	return take.NewBatch(schema, batch.NumRows(), func(i int) (arrow.Array, error) {
		c := batch.Column(i)
		decimals, ok := c.(*array.Decimal128)
		if !ok || schema.Field(i).Type.ID() != arrow.INT64 {
			c.Retain()
			return c, nil
		}
		b := array.NewInt64Builder(memory.DefaultAllocator)
		defer b.Release()
		b.Reserve(decimals.Len())
		for row := range decimals.Len() {
			v := decimals.Value(row)
			switch {
			case decimals.IsNull(row):
				b.AppendNull()
			case v.HighBits() != int64(v.LowBits())>>63:
				return nil, &sqltext.Error{Err: fmt.Errorf("column %q contains %s, which does not fit into 64 bits: cast it to DECIMAL(38, 0) or DOUBLE in the statement", schema.Field(i).Name, v.ToString(0))}
			default:
				b.Append(int64(v.LowBits()))
			}
		}
		return b.NewArray(), nil
	})
}
