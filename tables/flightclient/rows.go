package flightclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/transform"
)

// Scan reads the rows of a table in its current state, or at a version, snapshot or time. The server selects columns
// and rows. The caller must release the reader, which ends the scan.
func (c *Client) Scan(ctx context.Context, bucket, name string, at tables.At, o *tables.ScanOptions) (array.RecordReader, error) {
	o = cmp.Or(o, new(tables.ScanOptions))
	call := operations.Scan{
		Partd: operations.ScanCall, Table: operations.Table{Bucket: bucket, Name: name, State: operations.StateOf(at)}, ScanOptions: *o,
	}
	return c.getCall(ctx, call, o.ChunkRows)
}

// Changes calls Table.Changes on the server, for a table in its current state, or at a version, snapshot or time.
func (c *Client) Changes(ctx context.Context, bucket, name string, at, since tables.At, o *tables.ChangesOptions) (*tables.Changes, error) {
	o = cmp.Or(o, new(tables.ChangesOptions))
	r, err := c.getCall(ctx, operations.Changes{
		Partd: operations.ChangesCall, Table: operations.Table{Bucket: bucket, Name: name, State: operations.StateOf(at)},
		Since: operations.StateOf(since), Keys: o.Keys, UUID: o.UUID,
	}, 0)
	if err != nil {
		return nil, err
	}
	m := r.Schema().Metadata()
	version, _ := m.GetValue(tables.VersionKey)
	uuid, _ := m.GetValue(tables.UUIDKey)
	v, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		r.Release()
		return nil, fmt.Errorf("the server's answer contains an invalid version: %w", err)
	}
	return &tables.Changes{RecordReader: r, Version: tables.Version(v), UUID: uuid}, nil
}

// Query calls Store.Query on the server. Only the options Bucket, Parameters, At and Before are supported.
func (c *Client) Query(ctx context.Context, sql string, o *tables.QueryOptions) (_ array.RecordReader, err error) {
	o = cmp.Or(o, new(tables.QueryOptions))
	if o.Memory != 0 {
		return nil, fmt.Errorf("%w: option Memory applies only to local queries: leave it zero for a query on a server", errors.ErrUnsupported)
	}
	if tables.IsWrite(sql) { // the server would run the statement, and a retry of the call would run it again
		return nil, &tables.ArgumentError{Err: errors.New("the statement writes: use Exec")}
	}
	call := operations.StatementHandle{SQL: sql, State: operations.StateOf(o.At), Since: operations.StateOf(o.Before), Bucket: o.Bucket}
	call.Parameters, err = operations.EncodeParameters(o.Parameters)
	if err != nil {
		return nil, err
	}
	handle, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	ticket, err := flightsql.CreateStatementQueryTicket(handle)
	if err != nil {
		return nil, err
	}
	return c.get(ctx, ticket, 0)
}

// Resampled calls transform.Resampled on the server.
func (c *Client) Resampled(ctx context.Context, o *transform.ResampleOptions) (array.RecordReader, error) {
	o = cmp.Or(o, new(transform.ResampleOptions))
	return c.getCall(ctx, operations.Resampling{Partd: operations.ResampleCall, ResampleOptions: *o}, 0)
}

// getCall is like get, for a call that is encoded as JSON.
func (c *Client) getCall(ctx context.Context, call any, chunkRows int64) (array.RecordReader, error) {
	ticket, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	return c.get(ctx, ticket, chunkRows)
}

func (c *Client) get(ctx context.Context, ticket []byte, chunkRows int64) (array.RecordReader, error) {
	conn, err := c.conn()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := conn.DoGet(ctx, &flight.Ticket{Ticket: ticket})
	var r *flight.Reader
	if err == nil {
		r, err = flight.NewRecordReader(stream)
	}
	if err != nil {
		cancel()
		return nil, c.convertError(ctx, err)
	}
	return batches.Reader(r.Schema(), batches.Chunks(batches.MapError(batches.Of(r), func(err error) error { return c.convertError(ctx, err) }), chunkRows), func() {
		cancel()
		r.Release()
	}), nil
}

// Put calls Table.Put on the server, which writes all rows of r or none. Put reads r to its end, but does not release
// it. The options Over and MustExist are not supported.
func (c *Client) Put(ctx context.Context, bucket, name string, r array.RecordReader, m tables.PutMode, o *tables.PutOptions) (tables.Version, error) {
	o = cmp.Or(o, new(tables.PutOptions))
	if o.Over != nil || o.MustExist {
		return 0, fmt.Errorf("%w: options Over and MustExist apply only to local puts: leave them unset for a put on a server", errors.ErrUnsupported)
	}
	call := operations.Put{
		Partd: operations.PutCall, Bucket: bucket, Name: name, Mode: m,
		ID: o.ID, Metadata: o.Metadata, Settings: o.Settings, AllColumns: o.AllColumns,
	}
	result, err := c.put(ctx, call, r)
	if o.MissingColumns != nil {
		*o.MissingColumns = result.MissingColumns
	}
	return result.Version, err
}

// ReplaceRange calls Table.ReplaceRange on the server.
func (c *Client) ReplaceRange(ctx context.Context, bucket, name string, from, to time.Time, r array.RecordReader, o *tables.RangeOptions) (tables.RewriteResult, error) {
	timeRange := &operations.Range{From: from, To: to, TimeColumn: cmp.Or(o, new(tables.RangeOptions)).TimeColumn}
	result, err := c.put(ctx, operations.Put{Partd: operations.PutCall, Bucket: bucket, Name: name, Range: timeRange}, r)
	return result.RewriteResult, err
}

// Upsert calls Table.Upsert on the server.
func (c *Client) Upsert(ctx context.Context, bucket, name string, r array.RecordReader, o *tables.UpsertOptions) (tables.RewriteResult, error) {
	o = cmp.Or(o, new(tables.UpsertOptions))
	call := operations.Put{Partd: operations.PutCall, Bucket: bucket, Name: name, Upsert: &operations.Keys{Keys: o.Keys, NullKeys: o.NullKeys}, AllColumns: o.AllColumns}
	result, err := c.put(ctx, call, r)
	if o.MissingColumns != nil {
		*o.MissingColumns = result.MissingColumns
	}
	return result.RewriteResult, err
}

func (c *Client) put(ctx context.Context, call operations.Put, r array.RecordReader) (result operations.CorrectionAnswer, _ error) {
	command, err := json.Marshal(call)
	if err != nil {
		return result, err
	}
	conn, err := c.conn()
	if err != nil {
		return result, err
	}
	rows, err := datafile.Gather(r, 0) // fails if r was already read
	if err != nil {
		return result, &tables.OpError{Op: "put", Bucket: call.Bucket, Table: call.Name, Err: err}
	}
	defer rows.Release()
	ctx, cancel := context.WithCancel(ctx) // if an error ends the sending, cancel ends the call
	defer cancel()
	stream, err := conn.DoPut(ctx)
	if err != nil {
		return result, c.convertError(ctx, err)
	}
	err = send(stream, command, rows)
	if err != nil && (rows.Err() != nil || !errors.Is(err, io.EOF)) {
		return result, c.convertError(ctx, err)
	}
	isSent := err == nil && stream.CloseSend() == nil
	reply, err := stream.Recv()
	switch {
	case err != nil && isSent:
		return result, c.changeError(ctx, err)
	case err != nil:
		return result, c.convertError(ctx, err) // the server stopped receiving; err is the server's reason
	}
	if err := json.Unmarshal(reply.AppMetadata, &result); err != nil {
		return result, fmt.Errorf("%s: the server's answer to a put is invalid: %w", c.url, err)
	}
	return result, nil
}

// send sends the rows of a put. It returns io.EOF if the server stops receiving; stream.Recv then returns the reason.
func send(stream flight.FlightService_DoPutClient, command []byte, r *datafile.Source) error {
	w := flight.NewRecordWriter(stream, ipc.WithSchema(r.Schema))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command})
	for r.Next() {
		if err := sendBatch(w, r.RecordBatch(), r.Schema); err != nil {
			return err
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	return w.Close()
}

// sendBatch sends a batch with schema s instead of the batch's own schema. If the batch is from a Parquet file, the two
// schemas may differ in metadata, and Arrow's writer would reject the batch.
func sendBatch(w *flight.Writer, b arrow.RecordBatch, s *arrow.Schema) error {
	if int(b.NumCols()) != s.NumFields() {
		return fmt.Errorf("a batch has %d columns, but the reader's schema has %d", b.NumCols(), s.NumFields())
	}
	for i, c := range b.Columns() {
		if f := s.Field(i); !arrow.TypeEqual(c.DataType(), f.Type) {
			return &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("a batch has type %s, but the reader's schema has %s", c.DataType(), f.Type)}
		}
	}
	b = array.NewRecordBatch(s, b.Columns(), b.NumRows())
	defer b.Release()
	for message := range batches.Parts(b) {
		if err := w.Write(message); err != nil {
			return err
		}
	}
	return nil
}
